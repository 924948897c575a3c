"""Two models on the same test rows: by how much one is better, and whether that could be chance.

The p-value is of the hypothesis that the models are interchangeable: that each row's two predictions might as well
have come from each other. Accuracy has an exact test of that, McNemar's. For the other metrics, rows exchange their
predictions at random (approximate randomisation, as in Yeh 2000, https://aclanthology.org/C00-2137). How often equal
models are called different, by this and by a bootstrap, is in docs/decisions/0012-intervals.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from whet.errors import DataError
from whet.evaluate.counts import (
    Margins,
    macro_f1,
    macro_f1_influence,
    margins,
    mcc,
    mcc_influence,
    ratio,
    tally,
)
from whet.evaluate.intervals import NORMAL, Limits, macro_f1_limits, mcc_limits, row_losses

DRAWS = 2000
"""Random exchanges behind a p-value, which so is at least 1 / 2001."""
MCNEMAR = "McNemar's exact test"
EXCHANGE = f"exchange of predictions, {DRAWS} draws"
SHARES_OF_ROWS = ("accuracy", "exact_match")
"""Metrics whose test is exact."""
POWER = 0.8
AT_ONCE = 4_000_000
"""Random numbers held in memory at a time."""

Score = Callable[[Margins], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """`difference` is ours minus theirs in the metric's own unit (so log-loss is better below 0), `low` and `high` its
    95 % interval. `p_value` is of `test`. The verdict is the test's: near 0.05 interval and test may disagree. Rows
    that only one of the two gets right are None where rows are not simply right or wrong."""

    metric: str
    test: str
    difference: float
    low: float
    high: float
    p_value: float
    only_ours_right: int | None
    only_theirs_right: int | None
    rows: int


def compare(metric: str, ours: np.ndarray, theirs: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> Comparison:
    """Ours against theirs: probabilities (N x C each) of the same rows, `targets` N label numbers. `metric` is
    accuracy, macro_f1, mcc or log_loss. `seed` is of the random exchanges. Raises `DataError` without rows, or with
    unequal numbers of them.
    """
    if not len(ours) == len(theirs) == len(targets) or not len(targets):
        raise DataError(
            "two models are compared on the same rows, at least one: "
            f"here are {len(ours)} and {len(theirs)} predictions for {len(targets)} rows"
        )
    right, theirs_right = ours.argmax(1) == targets, theirs.argmax(1) == targets
    only_ours, only_theirs = int((right & ~theirs_right).sum()), int((theirs_right & ~right).sum())
    rng = np.random.default_rng(seed)
    if metric == "accuracy":
        found = by_accuracy(only_ours, only_theirs, len(targets))
    elif metric == "log_loss":
        found = by_losses(row_losses(ours, targets) - row_losses(theirs, targets), rng)
    else:
        found = _by_counts(metric, ours.argmax(1), theirs.argmax(1), targets, ours.shape[1], rng)
    test = MCNEMAR if metric in SHARES_OF_ROWS else EXCHANGE
    return Comparison(metric, test, *found, only_ours, only_theirs, len(targets))


def rows_to_tell(comparison: Comparison) -> int | None:
    """About how many test rows would tell such a difference four times out of five at p < 0.05; None if it is zero.

    For a share of rows that of McNemar's test (Connor 1987, Biometrics 43), and 1 / difference more since
    the test is the exact one. For other metrics from the interval's width, which falls with the root of the rows.
    The difference is taken for the true one; where few rows show it, that is a guess.
    """
    size = abs(comparison.difference)
    if size == 0:
        return None
    power = float(norm.ppf(POWER))
    ours, theirs = comparison.only_ours_right, comparison.only_theirs_right
    if comparison.test == MCNEMAR and ours is not None and theirs is not None:
        differing = (ours + theirs) / comparison.rows
        roots = NORMAL * math.sqrt(differing) + power * math.sqrt(max(differing - size**2, 0))
        return math.ceil((roots / size) ** 2 + 1 / size)
    half = (comparison.high - comparison.low) / 2
    return math.ceil(comparison.rows * ((NORMAL + power) / NORMAL * half / size) ** 2)


def by_accuracy(only_ours: int, only_theirs: int, rows: int) -> tuple[float, float, float, float]:
    """Difference, limits by Agresti and Min (2005, https://doi.org/10.1002/sim.1781): Wald's, of two rows more, half a
    row in each cell of right and wrong; p-value of McNemar's exact test."""
    differing = only_ours + only_theirs
    p_value = binomtest(only_ours, differing).pvalue if differing else 1.0
    middle = (only_ours - only_theirs) / (rows + 2)
    half = NORMAL * math.sqrt((differing + 1) / (rows + 2) - middle**2) / math.sqrt(rows + 2)
    return (only_ours - only_theirs) / rows, max(middle - half, -1.0), min(middle + half, 1.0), float(p_value)


def by_losses(differences: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Mean difference of the rows' losses, Student's limits, p-value from signs flipped at random."""
    rows, mean = len(differences), float(differences.mean())
    spare = max(rows - 1, 1)
    half = float(student.ppf(0.975, spare)) * float(differences.std()) / math.sqrt(spare)
    drawn = [
        (2 * rng.integers(0, 2, (draws, rows), dtype=np.int8) - 1) @ differences / rows for draws in portions(rows)
    ]
    return mean, mean - half, mean + half, share_beyond(mean, np.concatenate(drawn))


def _by_counts(
    metric: str, ours: np.ndarray, theirs: np.ndarray, targets: np.ndarray, labels: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Difference, limits and p-value of a score of confusion counts, from label numbers (N each)."""
    score, limits, influence = {
        "macro_f1": (macro_f1, macro_f1_limits, macro_f1_influence),
        "mcc": (mcc, mcc_limits, mcc_influence),
    }[metric]
    counts = [tally(targets, predicted, labels) for predicted in (ours, theirs)]
    scores = [float(score(margins(one))) for one in counts]
    by_row = [influence(one)[targets, predicted] for one, predicted in zip(counts, (ours, theirs), strict=True)]
    squares = np.sqrt((by_row[0] ** 2).sum() * (by_row[1] ** 2).sum())
    correlation = float(ratio((by_row[0] * by_row[1]).sum(), squares))
    low, high = _difference_limits(scores, [limits(one) for one in counts], correlation)
    difference = scores[0] - scores[1]
    return difference, low, high, share_beyond(difference, _exchanged(score, counts, ours, theirs, targets, rng))


def _difference_limits(scores: list[float], limits: list[Limits], correlation: float) -> tuple[float, float]:
    """Limits of the difference of two correlated scores from the limits of each: their distances squared and added
    (MOVER, Zou and Donner 2008, https://doi.org/10.1002/sim.3095)."""

    def together(one: float, other: float) -> float:
        return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))

    below = [max(score - float(one.low), 0.0) for score, one in zip(scores, limits, strict=True)]
    above = [max(float(one.high) - score, 0.0) for score, one in zip(scores, limits, strict=True)]
    difference = scores[0] - scores[1]
    return difference - together(below[0], above[1]), difference + together(above[0], below[1])


def _exchanged(
    score: Score,
    counts: list[np.ndarray],
    ours: np.ndarray,
    theirs: np.ndarray,
    targets: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Differences of the scores after rows exchanged their predictions at random, each with probability one half."""
    differing = ours != theirs
    cells, rows = np.unique(
        np.stack([targets[differing], ours[differing], theirs[differing]]), axis=1, return_counts=True
    )
    truth, one, other = (np.eye(len(counts[0]))[numbers] for numbers in cells)
    more_right, more_predicted = truth * (other - one), other - one
    first, second = (margins(count) for count in counts)
    drawn = []
    for draws in portions(len(rows)):
        moved = rng.binomial(rows, 0.5, (draws, len(rows))).astype(float)
        right, predicted = moved @ more_right, moved @ more_predicted
        mine = score(Margins(first.right + right, first.truth, first.predicted + predicted))
        drawn.append(mine - score(Margins(second.right - right, second.truth, second.predicted - predicted)))
    return np.concatenate(drawn)


def portions(width: int) -> Iterator[int]:
    """The draws in portions whose random numbers, `width` each, fit in memory."""
    portion = max(AT_ONCE // max(width, 1), 1)
    for start in range(0, DRAWS, portion):
        yield min(portion, DRAWS - start)


def share_beyond(difference: float, drawn: np.ndarray) -> float:
    """The share of draws at least as far from zero, the difference itself counted among them."""
    return float((1 + (np.abs(drawn) >= abs(difference) - 1e-12).sum()) / (1 + len(drawn)))
