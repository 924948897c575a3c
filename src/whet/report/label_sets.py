"""What a report shows where rows may have any number of labels: each label, its threshold, labels that stand together,
and the surest mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from whet.report.cases import Case, case_of, texts_of
from whet.report.run_files import RunFiles
from whet.report.threshold_plots import threshold_curve

FIRST, MOST = 12, 100
"""Labels that are shown first, and at all; metrics.json has every one."""
MOST_CURVES = 24
"""Labels whose curves are drawn."""
MOST_PAIRS = 12


@dataclass(frozen=True)
class Pair:
    """Two labels and the test rows that have both, and that were given both."""

    labels: tuple[str, str]
    truth: int
    given: int


@dataclass(frozen=True)
class Drawn:
    """A label's curves; `label` is None for all labels together, `common` says that it shares their threshold."""

    label: str | None
    threshold: float
    common: bool
    picture: Markup


def labels(run: RunFiles) -> dict[str, Any]:
    """The labels, those with most mistakes first, and the pairs of labels that stand together most often."""
    rows = sorted(run.metrics["per_label"], key=lambda row: (-row["missed"] - row["spurious"], row["f1"]))
    found = run.metrics["together"]
    pairs = [
        Pair((one, other), found["truth"][left][right], found["given"][left][right])
        for left, one in enumerate(run.labels)
        for right, other in enumerate(run.labels[:left])
    ]
    often = sorted((pair for pair in pairs if pair.truth or pair.given), key=lambda pair: -max(pair.truth, pair.given))
    return {"label_rows": rows[:MOST], "first_labels": FIRST, "label_pairs": often[:MOST_PAIRS]}


def thresholds(run: RunFiles) -> dict[str, Any]:
    """The curves of all labels together, then of each."""
    drawn = [
        Drawn(
            label=one["label"],
            threshold=one["threshold"],
            common=one.get("common", False),
            picture=threshold_curve(f"threshold-{number}", one, one["threshold"]),
        )
        for number, one in enumerate(run.metrics["thresholds"][: MOST_CURVES + 1])
    ]
    return {"all_curves": drawn[0], "own_curves": drawn[1:], "valid_rows": run.metrics["rows"]["valid"]}


def slips(run: RunFiles) -> dict[str, Any]:
    """Labels that the model was surest to leave out, and to give, wrongly."""
    texts, found = texts_of(run), run.metrics["slips"]

    def cases(missed: bool) -> list[Case]:
        kind = [one for one in found if one["missed"] == missed]
        return [case_of(one["row"], texts, one["label"], one["label"], one["probability"], None) for one in kind]

    return {"missed_labels": cases(True), "spurious_labels": cases(False)}
