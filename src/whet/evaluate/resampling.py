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

AT_ONCE = 4_000_000
"""Numbers of predictions held in memory at a time."""

Measure = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""From truth and prediction, draws first and then rows, to scores by name, one of each draw."""


def row_intervals(measure: Measure, truth: np.ndarray, predicted: np.ndarray, *, seed: int = 0) -> dict[str, Interval]:
    """The 95 % interval of each score: the percentiles of 1,000 draws of as many rows. Raises `DataError` without
    rows."""
    if not len(truth):
        raise DataError("intervals are computed from test rows, and there are none")
    drawn = _in_portions(lambda rows: measure(truth[rows], predicted[rows]), _draws(len(truth), seed), predicted)
    few = f"may be too narrow: only {len(truth)} test rows" if len(truth) < FEW else None
    found = {}
    for name, values in drawn.items():
        low, high = np.nanquantile(values, (0.025, 0.975))
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

    def apart(of: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
        return {metric: measure(of, one)[metric] - measure(of, other)[metric]}

    def exchanged(swap: np.ndarray) -> dict[str, np.ndarray]:
        swap = swap.reshape(*swap.shape, *[1] * (ours.ndim - 1))
        of = np.broadcast_to(truth, (len(swap), *truth.shape))
        return apart(of, np.where(swap, theirs, ours), np.where(swap, ours, theirs))

    found = float(apart(truth[None], ours[None], theirs[None])[metric][0])
    drawn = _in_portions(lambda rows: apart(truth[rows], ours[rows], theirs[rows]), _draws(len(truth), seed), ours)
    low, high = np.nanquantile(drawn[metric], (0.025, 0.975))
    swaps = np.random.default_rng([seed, 1]).integers(0, 2, (DRAWS, len(truth)), dtype=bool)
    as_far = int((np.abs(_in_portions(exchanged, swaps, ours)[metric]) >= abs(found) - 1e-12).sum())
    test, p_value = f"exchange of predictions, {DRAWS} draws", (1 + as_far) / (1 + DRAWS)
    return Comparison(metric, test, found, float(low), float(high), p_value, None, None, len(truth))


def one_by_one(measure: Callable[[np.ndarray, np.ndarray], dict[str, float]]) -> Measure:
    """The scores of each draw from what scores one."""

    def every(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
        each = [measure(one, said) for one, said in zip(truth, predicted, strict=True)]
        return {name: np.array([scores[name] for scores in each]) for name in each[0]}

    return every


def _draws(rows: int, seed: int) -> np.ndarray:
    """Row numbers, draws x rows."""
    return np.random.default_rng([seed, 0]).integers(0, rows, (DRAWS, rows))


def _in_portions(
    score: Callable[[np.ndarray], dict[str, np.ndarray]], draws: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """The scores of all draws, as many at a time as fit in memory."""
    portion = max(1, AT_ONCE // max(1, predicted.size))
    parts = [score(draws[start : start + portion]) for start in range(0, len(draws), portion)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
