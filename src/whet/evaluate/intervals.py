"""95 % intervals of the scores on test rows, and a warning where such an interval may be too narrow.

Which methods were tried, and how often each interval holds the true score, is in docs/decisions/0012-intervals.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from whet.errors import DataError
from whet.evaluate.calibration import calibration_error_limits
from whet.evaluate.counts import f1_per_label, margins, mcc, mcc_influence, ratio, standard_error, tally

NORMAL = float(norm.ppf(0.975))
LEAST = 1e-12
"""Probabilities below this count as this, so no row's loss is above 27.6 nats."""

# Where the simulation found less than 93 % of intervals to hold the true score.
FEW_OF_CLASS, SHARE_OF_CLASSES = 5, 0.1
"""macro_f1: at least this share of the classes have fewer test rows than that. Of one class: fewer rows than that."""
FEW_OUTSIDE = 20
"""mcc: fewer test rows than this are outside the most frequent class."""
FEW_WRONG = 5
"""log_loss: fewer test rows than this are predicted wrongly."""


class Limits(NamedTuple):
    """The ends of an interval, or of many at once."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Interval:
    """`warning` says, where it is not None, that the interval may be too narrow, and why."""

    low: float
    high: float
    method: str
    warning: str | None = None


@dataclass(frozen=True)
class Intervals:
    """`scores` by the metric's name. `per_label`: precision, recall and f1 of each label in the labels' order, None
    where no test row tells: precision of a label never predicted, recall of one that no row has."""

    scores: dict[str, Interval]
    per_label: list[dict[str, Interval | None]]


def score_intervals(probabilities: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> Intervals:
    """Intervals of all metrics: accuracy, macro_f1, mcc, log_loss and ece (the expected calibration error).

    `probabilities` is N x C, `targets` N label numbers. `seed` is of the draws for ece; all else is computed without
    chance. Raises `DataError` without rows.
    """
    if not len(targets):
        raise DataError("intervals are computed from test rows, and there are none")
    counts = tally(targets, probabilities.argmax(1), probabilities.shape[1])
    right, size = np.trace(counts), len(targets)
    log_loss = np.clip(mean_limits(row_losses(probabilities, targets)), 0, -np.log(LEAST))
    error = calibration_error_limits(probabilities, targets, seed=seed)
    scores = {
        "accuracy": _interval(wilson(right, size), "Wilson"),
        "macro_f1": _interval(macro_f1_limits(counts), "Wilson per class, squared and added", few_rows(counts)),
        "mcc": _interval(mcc_limits(counts), "Wilson on effective rows", few_outside(counts)),
        "log_loss": _interval(log_loss, "Hall's transformation of t", few_wrong(counts)),
        "ece": _interval(error, "inverted simulation"),
    }
    return Intervals(scores, per_label_intervals(counts))


def _interval(limits: Iterable[Any], method: str, warning: str | None = None) -> Interval:
    low, high = limits
    return Interval(float(low), float(high), method, warning)


def few_rows(counts: np.ndarray) -> str | None:
    """Why the interval of macro-F1 may be too narrow, if it may. C x C counts."""
    if not has_few_rows(counts.sum(1)):
        return None
    few, of = int((counts.sum(1) < FEW_OF_CLASS).sum()), len(counts)
    have = "has" if few == 1 else "have"
    return f"may be too narrow: {few} of {of} classes {have} fewer than {FEW_OF_CLASS} test rows"


def has_few_rows(rows: np.ndarray) -> np.ndarray:
    """Whether the interval of macro-F1 may be too narrow with these rows per class (... x C)."""
    return (rows < FEW_OF_CLASS).mean(-1) >= SHARE_OF_CLASSES


def few_outside(counts: np.ndarray) -> str | None:
    """Why the interval of Matthews' correlation may be too narrow, if it may. C x C counts."""
    outside = int(counts.sum() - counts.sum(1).max())
    if outside >= FEW_OUTSIDE:
        return None
    are = "row is" if outside == 1 else "rows are"
    return f"may be too narrow: only {outside} test {are} outside the most frequent class"


def few_wrong(counts: np.ndarray) -> str | None:
    """Why the interval of log-loss may be too narrow, if it may: few wrong rows do not show how large losses get."""
    wrong = int(counts.sum() - np.trace(counts))
    if wrong >= FEW_WRONG:
        return None
    return f"may be too narrow: only {wrong} test {'row is' if wrong == 1 else 'rows are'} predicted wrongly"


def per_label_intervals(counts: np.ndarray) -> list[dict[str, Interval | None]]:
    """Of one C x C matrix. F1 is 2J / (1 + J), where J is the share of right rows among those that have the label in
    truth or prediction; so J's interval makes that of F1 (Lam et al. 2023, https://arxiv.org/abs/2309.14621)."""
    rows = margins(counts)
    either = rows.truth + rows.predicted - rows.right
    parts = {
        "precision": (rows.predicted, wilson(rows.right, rows.predicted)),
        "recall": (rows.truth, wilson(rows.right, rows.truth)),
        "f1": (either, f1_limits(rows.right, either)),
    }
    return [
        {name: _of_label(int(of[label]), limits, label) for name, (of, limits) in parts.items()}
        for label in range(len(counts))
    ]


def _of_label(rows: int, limits: Limits, label: int) -> Interval | None:
    if not rows:
        return None
    few = f"may be too narrow: only {rows} {'row' if rows == 1 else 'rows'}" if rows < FEW_OF_CLASS else None
    return _interval((limits.low[label], limits.high[label]), "Wilson", few)


def wilson(right: np.ndarray | float, rows: np.ndarray | float) -> Limits:
    """Wilson's interval of a share (1927, https://doi.org/10.1080/01621459.1927.10502953); 0 to 1 without rows."""
    right, rows = np.asarray(right, dtype=float), np.asarray(rows, dtype=float)
    middle = (right + NORMAL**2 / 2) / (rows + NORMAL**2)
    half = NORMAL * np.sqrt(ratio(right * (rows - right), rows) + NORMAL**2 / 4) / (rows + NORMAL**2)
    low, high = np.where(right == 0, 0.0, middle - half), np.where(right == rows, 1.0, middle + half)
    return Limits(np.maximum(low, 0), np.minimum(high, 1))


def f1_limits(right: np.ndarray, either: np.ndarray) -> Limits:
    """Limits of F1 from those of `right` among `either`, the rows that have the label in truth or prediction."""
    low, high = wilson(right, either)
    return Limits(2 * low / (1 + low), 2 * high / (1 + high))


def macro_f1_limits(counts: np.ndarray) -> Limits:
    """Limits of macro-F1 for ... x C x C counts: the limits of each label's F1 squared and added, with correlations.

    That is MOVER (Zou and Donner 2008, https://doi.org/10.1002/sim.3095) with three changes, for the many labels of
    few rows that macro-F1 is made of. A label's half-width is no less than its standard error says. F1's bias of
    order 1 / rows is taken off the middle. And the middle leans to the longer side of each label's interval only as
    far as that label makes up the variance, since a sum of many is less skewed than each.
    """
    rows = margins(counts)
    either = rows.truth + rows.predicted - rows.right
    share, spare = ratio(rows.right, either), np.maximum(either - 1, 1)
    f1, (low, high), known = f1_per_label(rows), f1_limits(rows.right, either), either > 0
    error = 2 / (1 + share) ** 2 * np.sqrt(share * (1 - share) / spare)
    half = known * np.maximum((high - low) / 2, NORMAL * error)
    bias = -2 * share * (1 - share) / (spare * (1 + share) ** 3)
    lean = known * ((low + high) / 2 - f1 + bias)
    variance = (half**2).sum(-1) + _covariance(counts, rows.right, either, half)
    middle = (f1 - bias).sum(-1) + (lean * half**2).sum(-1) / variance
    labels = known.sum(-1)
    width = np.sqrt(variance)
    return Limits(*np.clip(((middle - width) / labels, (middle + width) / labels), 0, 1))


def _covariance(counts: np.ndarray, right: np.ndarray, either: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Sum over pairs of labels of half-width times half-width times correlation: two labels' F1 are correlated by the
    rows of the one that were given the other."""
    shared = counts + np.swapaxes(counts, -1, -2)
    shared = shared * (1 - np.eye(counts.shape[-1]))
    weight = half * np.sqrt(ratio(right, (either - right) * either))
    return (weight[..., None, :] @ shared @ weight[..., :, None])[..., 0, 0]


def mcc_limits(counts: np.ndarray) -> Limits:
    """Limits of Matthews' correlation for ... x C x C counts: (1 + mcc) / 2 is treated as a share, Wilson's interval
    taken of as many rows as would give a share that standard error (as Korn and Graubard 1998 do for surveys).

    Without a mistake the standard error is that of half a mistake, made as chance would. If all predictions are one
    label, it is that of predictions that know nothing of the truth. If all rows have one label, they tell nothing,
    and the limits are -1 and 1.
    """
    rows = margins(counts)
    score, perfect = mcc(rows), (rows.right == rows.truth).all(-1)
    some = np.where(perfect[..., None, None], counts + _half_a_mistake(counts), counts)
    value = mcc(margins(some))
    effective = ratio(1 - value**2, standard_error(some, mcc_influence(some)) ** 2)
    ignorant = ((rows.predicted > 0).sum(-1) == 1) & ((rows.truth > 0).sum(-1) > 1)
    effective = np.where(ignorant, rows.truth.sum(-1), effective)
    # A perfect score is 1 up to rounding, which would leave Wilson's upper limit beside 1.
    low, high = wilson(np.where(perfect & (effective > 0), 1.0, (1 + score) / 2) * effective, effective)
    return Limits(2 * low - 1, 2 * high - 1)


def _half_a_mistake(counts: np.ndarray) -> np.ndarray:
    truth = counts.sum(-1)
    chance = truth[..., :, None] * truth[..., None, :] * (1 - np.eye(counts.shape[-1]))
    return ratio(0.5 * chance, chance.sum((-1, -2), keepdims=True))


def mean_limits(values: np.ndarray) -> Limits:
    """Limits of the mean of ... x N values, which may be very skewed: Student's interval with the skewness removed
    (Hall 1992, Journal of the Royal Statistical Society B 54). Equal values have an interval of no width."""
    size, mean = values.shape[-1], values.mean(-1)
    apart = values - mean[..., None]
    deviation = np.sqrt((apart**2).mean(-1))
    skewness = ratio((apart**3).mean(-1), deviation**3)
    quantile = student.ppf(0.975, max(size - 1, 1)) / np.sqrt(size)

    def untransformed(level: float) -> np.ndarray:
        third = skewness / 3
        inside = level - skewness / (6 * size)
        curved = np.where(np.abs(third) > 1e-9, third, 1.0)
        return np.where(np.abs(third) > 1e-9, (np.cbrt(1 + 3 * curved * inside) - 1) / curved, inside)

    return Limits(mean - deviation * untransformed(quantile), mean - deviation * untransformed(-quantile))


def row_losses(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Minus the log of the probability given to each row's label, in nats."""
    return -np.log(np.maximum(probabilities[np.arange(len(targets)), targets], LEAST))
