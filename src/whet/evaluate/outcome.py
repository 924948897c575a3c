"""What came of a run: the outcome, the comparison that settles it, and how many rows would tell more."""

from __future__ import annotations

import math
from typing import Literal

from whet.evaluate.facts import Against, Facts, Metric, best_baseline, compared, named, tested

Outcome = Literal[
    "helped",
    "no_better",
    "no_better_than_tfidf",
    "no_better_than_majority",
    "no_better_than_mean",
    "worse",
    "too_small_to_tell",
    "not_compared",
    "no_test",
]

SIMPLEST: dict[str, Outcome] = {"majority": "no_better_than_majority", "mean": "no_better_than_mean"}
"""Baselines that know the targets alone, and what it is called not to be better than one."""
SIGNIFICANT = 0.05
"""A difference is beyond noise if its 95 % interval excludes zero and its p-value is below this."""
POINTS = 0.02
"""The least difference of a share that matters, unless a fifth of the other's mistakes is less."""
OF_MISTAKES = 0.2
OF_VALUE = 0.05
"""The least difference that matters in a measure that is no share, as a part of the other's value."""
RULE_OF_THREE = 3.0
"""What was seen in none of n rows may still be in 3/n of all (95 %): a test of fewer than 3/d rows cannot rule out
a difference of d, however narrow its interval looks (Hanley and Lippman-Hand, JAMA 249, 1983)."""
POWER = 2.80 / 1.96
"""Half an interval's width times this is a difference that the same test would show four times out of five."""
MOST_ROWS = 10_000_000
"""More are never named as what a test needs."""


def settle(facts: Facts) -> tuple[Outcome, Against | None]:
    """The outcome and the comparison that settles it: with what knows the targets alone (the majority class, the mean)
    if that is not beaten, else with the baseline of the best score."""
    if tested(facts) is None:
        return "no_test", None
    best = compared(best_baseline(facts))
    if best is None:
        return "not_compared", None
    for name, outcome in SIMPLEST.items():
        simplest = compared(named(facts, name))
        if simplest is not None and relation(facts, simplest) in ("worse", "same"):
            return outcome, simplest
    found = relation(facts, best)
    if found == "same":
        return ("no_better_than_tfidf" if best[0].name == "tfidf" else "no_better"), best
    outcomes: dict[str, Outcome] = {"better": "helped", "worse": "worse", "unclear": "too_small_to_tell"}
    return outcomes[found], best


def relation(facts: Facts, against: Against) -> Literal["better", "worse", "same", "unclear"]:
    """`same`: not better by as much as matters. `unclear`: the test cannot tell."""
    test, paired = facts.test, against[1]
    if paired.p_value < SIGNIFICANT and paired.low > 0:
        return "better"
    if paired.p_value < SIGNIFICANT and paired.high < 0:
        return "worse"
    least = least_that_matters(facts.metric, against[0].score)
    enough = not facts.metric.percent or (test is not None and test.rows >= RULE_OF_THREE / least)
    return "same" if paired.low <= 0 and paired.high < least and enough else "unclear"


def least_that_matters(metric: Metric, theirs: float) -> float:
    """The smallest difference that counts as one: 2 points, or a fifth of the other's mistakes if that is less. For
    measures that are no share, a twentieth of the other's value."""
    if not metric.percent:
        return OF_VALUE * abs(theirs)
    mistakes = theirs if metric.lower_is_better else 1 - theirs
    return min(POINTS, OF_MISTAKES * mistakes) if mistakes > 0 else POINTS


def rows_needed(metric: Metric, rows: int, against: Against) -> tuple[int, float] | None:
    """About how many test rows would tell, and the difference that they would show: that which was seen, or, where
    that is too small to matter, the least that matters. None if the test has as many, or no test would do."""
    paired, least = against[1], least_that_matters(metric, against[0].score)
    half, seen = (paired.high - paired.low) / 2, abs(paired.difference)

    def rows_for(size: float) -> float:
        widths = POWER * half / size
        return max(rows * widths * widths, RULE_OF_THREE / size if metric.percent else 0)

    size = least if seen < least and rows_for(least) > rows else seen
    if not size:
        return None
    needed = paired.rows_to_tell if paired.rows_to_tell and size == seen else rows_for(size)
    return (rounded_up(needed), size) if rows < needed < MOST_ROWS else None


def rounded_up(number: float) -> int:
    """To two digits: 3,412 becomes 3,500."""
    unit = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit
