"""What is worth knowing beside the outcome: each finding is one fact in words, left out where a figure is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from whet.evaluate.facts import Against, ClassFacts, Facts, Score, compared, interval, known, named, tested
from whet.evaluate.outcome import Outcome, least_that_matters, relation, rows_needed
from whet.evaluate.wording import capital, counted, figure, gap_of, listed, percent, points, quoted, short, spread

# The most important first: findings are sorted so.
Kind = Literal[
    "worse_than_before",
    "test_small",
    "gain_ruled_out",
    "baseline_missing",
    "one_class_predicted",
    "class_never_predicted",
    "accuracy_misleads",
    "overfitted",
    "forgot",
    "validation_and_test_disagree",
    "interval_too_narrow",
    "class_not_tested",
    "poorly_calibrated",
    "small_gain",
    "no_better_than_before",
    "better_than_before",
    "overfitted_later",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

WIDE = 0.05
"""A test is called small where the score may be further off than this."""
LOOKS_HIGH = 0.7
FAR_APART = 0.1
"""Accuracy above macro-F1 by this much hides something..."""
HARDLY = 0.2
"""...if a class exists of which less than this share is found."""
CALIBRATION, CALIBRATION_NOISE = 0.1, 2.0
"""A calibration error counts above the first, and above the second divided by the root of the rows: with 15 bins,
probabilities that are right exceed that in about one test of a hundred."""


class Finding(NamedTuple):
    kind: Kind
    text: str


def findings(facts: Facts, outcome: Outcome, against: Against | None) -> tuple[Finding, ...]:
    """All that can be said beside an outcome and the comparison that settled it, in the order of `KINDS`."""
    found = [*of_comparison(facts, outcome, against), *of_before(facts, against)]
    found += [*of_scores(facts, outcome), *of_classes(facts), *of_training(facts), *of_forgetting(facts)]
    return tuple(sorted(found, key=lambda finding: KINDS.index(finding.kind)))


def of_comparison(facts: Facts, outcome: Outcome, against: Against | None) -> Iterator[Finding]:
    """What stands behind the headline's comparison."""
    test, metric = facts.test, facts.metric
    for title, reason in facts.missing:
        yield Finding("baseline_missing", f"Not held against {short(title)}: {reason}.")
    if test is None or against is None:
        return
    baseline, paired = against
    gap, limits = gap_of(metric, paired)
    title, least = short(baseline.title), least_that_matters(metric, baseline.score)
    if outcome == "too_small_to_tell":
        needed = rows_needed(metric, test.rows, against)
        more = f" About {needed[0]:,} test rows would show one of {points(metric, needed[1])}." if needed else ""
        yield Finding("test_small", f"The difference from {title} is {gap} ({limits}).{more}")
    if outcome.startswith("no_better"):
        text = f"The difference from {title} is {gap} ({limits}); a gain of {points(metric, least)} is ruled out."
        yield Finding("gain_ruled_out", text)
    if outcome == "helped" and paired.high < least:
        yield Finding("small_gain", f"The gain over {title} is beyond noise, but small: {gap} ({limits}).")


def of_before(facts: Facts, against: Against | None) -> Iterator[Finding]:
    """Against what there was before tuning, where the headline does not say it already."""
    before = compared(named(facts, "frozen"))
    if tested(facts) is None or before is None or (against is not None and against[0].name == "frozen"):
        return
    baseline, found = before[0], relation(facts, before)
    gap, limits = gap_of(facts.metric, before[1], flipped=found == "worse")
    had = f"{short(baseline.title)} had {facts.metric.name} {figure(facts.metric, baseline.score)}"
    if found == "worse":
        yield Finding("worse_than_before", f"Worse than before tuning by {gap} ({limits}): {had}.")
    if found == "better":
        yield Finding("better_than_before", f"Better than before tuning by {gap} ({limits}): {had}.")
    if found == "same":
        yield Finding(
            "no_better_than_before", f"No better than before tuning beyond noise: {had}, difference {gap} ({limits})."
        )


def of_scores(facts: Facts, outcome: Outcome) -> Iterator[Finding]:
    """What the scores themselves say: too few rows, parts that disagree, intervals and probabilities not to trust."""
    test, metric = tested(facts), facts.metric
    yield from (Finding("interval_too_narrow", text) for text in facts.interval_warnings)
    if test is None:
        return
    within = interval(metric, test)
    if within and metric.percent and (within[1] - within[0]) / 2 > WIDE and outcome != "too_small_to_tell":
        score, rows = f"{metric.name} {figure(metric, test.value)}", counted(test.rows, "row")
        yield Finding("test_small", f"The test is small: {score} on {rows} is uncertain ({spread(metric, *within)}).")
    yield from disagreement(facts, test)
    error = facts.calibration_error
    if known(error) and error > max(CALIBRATION, CALIBRATION_NOISE / math.sqrt(test.rows)):
        text = f"Probabilities are off by {100 * error:.1f} points on average: do not read them as chances."
        yield Finding("poorly_calibrated", text)


def disagreement(facts: Facts, test: Score) -> Iterator[Finding]:
    """Validation and test further apart than their intervals explain: zero lies outside the 95 % interval of their
    difference, made from the two by squaring and adding (Newcombe, Statistics in Medicine 17, 1998, method 10; Zou
    and Donner, Statistics in Medicine 27, 2008)."""
    metric, valid = facts.metric, facts.valid
    if valid is None or valid.rows < 1 or not known(valid.value):
        return
    of_valid, of_test = interval(metric, valid), interval(metric, test)
    if of_valid is None or of_test is None:
        return
    difference = valid.value - test.value
    below = math.hypot(valid.value - of_valid[0], of_test[1] - test.value)
    above = math.hypot(of_valid[1] - valid.value, test.value - of_test[0])
    if -above <= difference <= below:
        return
    word = "better" if (difference > 0) != metric.lower_is_better else "worse"
    left = f"{metric.name} {figure(metric, valid.value)} on {counted(valid.rows, 'validation row')}"
    right = f"{figure(metric, test.value)} on {counted(test.rows, 'test row')}"
    text = f"{capital(left)} is {word} than {right} by more than chance easily explains."
    yield Finding("validation_and_test_disagree", text)


def of_classes(facts: Facts) -> Iterator[Finding]:
    """Classes that the test shows never, or the model."""
    shown = [one for one in facts.classes if one.support > 0]
    test = tested(facts)
    if test is None or not shown:
        return
    given = [one for one in facts.classes if one.predicted > 0]
    missing = sorted((one for one in shown if not one.predicted), key=lambda one: -one.support)
    # Where rows have any number of classes, one may be the only one predicted, yet not for every row.
    if len(given) == 1 and missing and given[0].predicted == test.rows:
        rows = counted(given[0].predicted, "test row")
        yield Finding("one_class_predicted", f"The model gave all {rows} the class {quoted(given[0].label)}.")
    elif missing:
        names = [f"{quoted(one.label)} ({counted(one.support, 'test row')})" for one in missing]
        yield Finding("class_never_predicted", f"Never predicted: {listed(names, len(facts.classes))}.")
    absent = [quoted(one.label) for one in facts.classes if one.support == 0]
    if absent:
        text = f"Without a test row, so nothing is known of them: {listed(absent, len(facts.classes))}."
        yield Finding("class_not_tested", text)
    yield from misleading(facts, shown)


def misleading(facts: Facts, shown: Sequence[ClassFacts]) -> Iterator[Finding]:
    """Accuracy that looks better than the model is, since the classes differ much in size."""
    accuracy, macro_f1 = facts.accuracy, facts.macro_f1
    if not known(accuracy):
        return
    largest, rows = max(shown, key=lambda one: one.support), sum(one.support for one in shown)
    share = largest.support / rows
    hidden = [one for one in shown if known(one.recall) and one.recall < HARDLY]
    if LOOKS_HIGH <= accuracy <= share and len(shown) > 1:
        text = f"Accuracy {percent(accuracy)} looks high, but {percent(share)} of the test rows are of the class"
        yield Finding("accuracy_misleads", f"{text} {quoted(largest.label)}.")
    elif known(macro_f1) and accuracy - macro_f1 >= FAR_APART and hidden:
        worst = max(hidden, key=lambda one: one.support)
        found = f"of {counted(worst.support, 'row')} of {quoted(worst.label)}, {percent(worst.recall)} were found"
        yield Finding("accuracy_misleads", f"Accuracy {percent(accuracy)} hides macro-F1 {percent(macro_f1)}: {found}.")


def of_training(facts: Facts) -> Iterator[Finding]:
    since = facts.overfitting_since
    if since is None:
        return
    text = f"After step {since:,} validation loss rose while training loss fell"
    if facts.kept_before_overfitting:
        yield Finding("overfitted_later", f"{text}; the weights kept are not from after it.")
    else:
        yield Finding("overfitted", f"{text}, and the weights kept are from after it.")


def of_forgetting(facts: Facts) -> Iterator[Finding]:
    """What the body clearly lost, all in one sentence, and what might keep more of it."""
    said = [
        f"{one.what} went from {one.before:.3f} to {one.after:.3f} (95 %: {one.low:.3f} to {one.high:.3f} lost)"
        for one in facts.lost
        if one.clear
    ]
    if said:
        other = f", or the strategy {' or '.join(facts.keeping_more)}" if facts.keeping_more else ""
        cure = f"Where that matters: fewer epochs, a lower rate{other}."
        yield Finding("forgot", f"The body forgot: {'; '.join(said)}. {cure}")
