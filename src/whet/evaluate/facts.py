"""The figures of a finished run that its verdict rests on, and which of them can be read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard


@dataclass(frozen=True)
class Metric:
    """`name` as people read it in a sentence (`accuracy`, `macro-F1`), `title` above a column (the name where it is
    None). `percent`: a share with 1 at best, shown in percent."""

    name: str = "accuracy"
    lower_is_better: bool = False
    percent: bool = True
    title: str | None = None

    @property
    def shown(self) -> str:
        return self.title or self.name

    def goodness(self, value: float) -> float:
        """The value turned so that higher is better."""
        return -value if self.lower_is_better else value


@dataclass(frozen=True)
class Score:
    """A score on `rows` rows with its 95 % interval; without one, that of accuracy is computed, others have none."""

    value: float
    rows: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Paired:
    """Ours minus theirs on the same rows, positive where ours is better, with its 95 % interval and p-value.

    `rows_to_tell`: about how many test rows would show this difference, if that is known.
    """

    difference: float
    low: float
    high: float
    p_value: float
    rows_to_tell: int | None = None


@dataclass(frozen=True)
class Reference:
    """A baseline's score, which ours is held against: `name` is `majority`, `tfidf`, `frozen` (what there was before
    tuning: the same model's frozen features under a logistic regression) or another; `title` is what people read."""

    name: str
    title: str
    score: float
    paired: Paired | None = None


Against = tuple[Reference, Paired]
"""A baseline that was compared row by row, and how."""


@dataclass(frozen=True)
class ClassFacts:
    """One class on the test rows: rows that have it, rows that were given it."""

    label: str
    support: int
    predicted: int
    recall: float
    f1: float


@dataclass(frozen=True)
class Lost:
    """What the tuned body does worse than the pretrained one: `what` was measured before and after, and the 95 %
    interval of the loss, which is above 0 where it is one. Less than `least` is not worth a word."""

    what: str
    before: float
    after: float
    low: float
    high: float
    least: float

    @property
    def clear(self) -> bool:
        return self.low > 0 and abs(self.after - self.before) >= self.least


@dataclass(frozen=True)
class Facts:
    """All that a verdict rests on. `test` is None without test rows; `baselines` is empty if none was scored;
    `missing` are the titles of those that could not be made, with the reason.

    `overfitting_since` is the step after which validation loss rose while training loss fell, None if it did not;
    `kept_before_overfitting`: the weights kept are not from after it. `keeping_more` names strategies to try where
    something was `lost`. A figure that is not finite counts as missing.
    """

    metric: Metric
    test: Score | None
    valid: Score | None = None
    baselines: tuple[Reference, ...] = ()
    classes: tuple[ClassFacts, ...] = ()
    accuracy: float | None = None
    macro_f1: float | None = None
    overfitting_since: int | None = None
    kept_before_overfitting: bool = False
    calibration_error: float | None = None
    interval_warnings: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    lost: tuple[Lost, ...] = ()
    keeping_more: tuple[str, ...] = ()


def known(figure: float | None) -> TypeGuard[float]:
    return figure is not None and math.isfinite(figure)


def tested(facts: Facts) -> Score | None:
    return facts.test if facts.test is not None and facts.test.rows > 0 and known(facts.test.value) else None


def named(facts: Facts, name: str) -> Reference | None:
    return next((one for one in facts.baselines if one.name == name and known(one.score)), None)


def best_baseline(facts: Facts) -> Reference | None:
    """That of the best score; of equal ones, one that was compared row by row."""
    sign = -1 if facts.metric.lower_is_better else 1
    scored = [one for one in facts.baselines if known(one.score)]
    return max(scored, key=lambda one: (sign * one.score, compared(one) is not None), default=None)


def compared(baseline: Reference | None) -> Against | None:
    """A baseline with its paired comparison, if it has one in whole."""
    paired = baseline.paired if baseline is not None else None
    if baseline is None or paired is None:
        return None
    whole = all(map(known, (paired.difference, paired.low, paired.high, paired.p_value)))
    return (baseline, paired) if whole else None


def interval(metric: Metric, score: Score) -> tuple[float, float] | None:
    """The given 95 % interval; else, for accuracy, that of Wilson (JASA 22, 1927) for a share of rows."""
    if known(score.low) and known(score.high):
        return score.low, score.high
    if metric.name != "accuracy" or not 0 <= score.value <= 1:
        return None
    from scipy.stats import binomtest

    found = binomtest(round(score.value * score.rows), score.rows).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
