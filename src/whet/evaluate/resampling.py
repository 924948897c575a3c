"""Intervals and comparisons of any score, by drawing test rows anew.

What needs no more than a score of truth and prediction: a bootstrap over rows for intervals (Efron and Tibshirani 1993,
An Introduction to the Bootstrap, chapter 13), and rows that exchange their predictions at random for the p-value (as in
Yeh 2000, https://aclanthology.org/C00-2137). Both arrays have the rows first. Where a score has a method of its own
that holds better, its task uses that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from whet.errors import DataError
from whet.evaluate.intervals import Interval
from whet.evaluate.paired import Comparison

DRAWS = 1000
FEW = 20
"""With fewer rows than this, a bootstrap may be too narrow whatever is measured."""

Measure = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""From truth and prediction, rows first, to scores by name."""


def row_intervals(measure: Measure, truth: np.ndarray, predicted: np.ndarray, *, seed: int = 0) -> dict[str, Interval]:
    """The 95 % interval of each score: the percentiles of 1,000 draws of as many rows. Raises `DataError` without
    rows."""
    if not len(truth):
        raise DataError("intervals are computed from test rows, and there are none")
    drawn = [measure(truth[rows], predicted[rows]) for rows in _draws(len(truth), seed)]
    few = f"may be too narrow: only {len(truth)} test rows" if len(truth) < FEW else None
    found = {}
    for name in measure(truth, predicted):
        low, high = np.nanquantile([one[name] for one in drawn], (0.025, 0.975))
        found[name] = Interval(float(low), float(high), f"bootstrap over rows, {DRAWS} draws", few)
    return found


def row_comparison(
    measure: Measure, metric: str, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, *, seed: int = 0
) -> Comparison:
    """Ours against theirs in one score, on the same rows: interval of the difference by a bootstrap over rows, p-value
    by exchange. Raises `DataError` without rows, or with unequal numbers of them."""
    if not len(ours) == len(theirs) == len(truth) or not len(truth):
        raise DataError(
            "two models are compared on the same rows, at least one: "
            f"here are {len(ours)} and {len(theirs)} predictions for {len(truth)} rows"
        )

    def apart(of: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
        return measure(of, one)[metric] - measure(of, other)[metric]

    found = apart(truth, ours, theirs)
    drawn = [apart(truth[rows], ours[rows], theirs[rows]) for rows in _draws(len(truth), seed)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    chance = np.random.default_rng([seed, 1])
    as_far = 0
    for _ in range(DRAWS):
        swap = chance.integers(0, 2, len(truth), dtype=bool).reshape(-1, *[1] * (ours.ndim - 1))
        exchanged = apart(truth, np.where(swap, theirs, ours), np.where(swap, ours, theirs))
        as_far += abs(exchanged) >= abs(found) - 1e-12
    test = f"exchange of predictions, {DRAWS} draws"
    return Comparison(metric, test, found, float(low), float(high), (1 + as_far) / (1 + DRAWS), None, None, len(truth))


def _draws(rows: int, seed: int) -> np.ndarray:
    """Row numbers, draws x rows."""
    return np.random.default_rng([seed, 0]).integers(0, rows, (DRAWS, rows))
