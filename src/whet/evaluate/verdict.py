"""What the figures of a finished run say, in words, and no more than they carry.

One outcome, settled by one comparison, that with the best baseline; and findings beside it. A pure function of
figures: docs/guide/verdict.md lists every outcome and finding with its rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from whet.evaluate.facts import Against, Facts, interval, known, tested
from whet.evaluate.findings import Finding, findings
from whet.evaluate.outcome import Outcome, rows_needed, settle
from whet.evaluate.wording import capital, counted, figure, gap_of, short, spread


@dataclass(frozen=True)
class Verdict:
    """`outcome` for programs, `headline` for people. `against` names the baseline that the outcome is tied to: it
    says nothing of the others. None where nothing was compared."""

    outcome: Outcome
    headline: str
    findings: tuple[Finding, ...]
    against: str | None


def verdict(facts: Facts) -> Verdict:
    """What can be said of a run. Never raises on missing figures; what they would carry is left unsaid."""
    outcome, against = settle(facts)
    name = None if against is None else against[0].name
    return Verdict(outcome, headline(facts, outcome, against), findings(facts, outcome, against), name)


def headline(facts: Facts, outcome: Outcome, against: Against | None) -> str:
    metric, test = facts.metric, tested(facts)
    if test is None:
        return headline_without_test(facts)
    ours, on = f"{metric.name} {figure(metric, test.value)}", counted(test.rows, "test row")
    if against is None:
        within = interval(metric, test)
        noted = f" ({spread(metric, *within)})" if within else ""
        return f"{capital(ours)} on {on}{noted}; nothing was compared with it."
    baseline, paired = against
    title, theirs = short(baseline.title), figure(metric, baseline.score)
    if outcome in ("helped", "worse"):
        gap, limits = gap_of(metric, paired, flipped=outcome == "worse")
        word = "better" if outcome == "helped" else "worse"
        return f"{outcome.capitalize()}: {ours}, {gap} {word} than {title} ({limits}; {on})."
    if outcome == "too_small_to_tell":
        needed = rows_needed(metric, test.rows, against)
        more = f"; about {needed[0]:,} needed" if needed else ""
        return f"Test too small to tell: {ours}, {title} {theirs} ({counted(test.rows, 'row')}{more})."
    beyond = " beyond noise" if paired.difference > 0 else ""
    return f"No better than {title}{beyond}: {ours} against {theirs} ({on})."


def headline_without_test(facts: Facts) -> str:
    valid, said = facts.valid, "No test score, so nothing is known about new rows"
    if valid is None or not known(valid.value):
        return f"{said}."
    score = f"{facts.metric.name} {figure(facts.metric, valid.value)}"
    return f"{said}; validation {score} ({counted(valid.rows, 'row')}) is likely flattered."
