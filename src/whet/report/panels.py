"""The sections of a report that only some tasks have. Which of them a run gets hangs on what its metrics.json holds.

A section has a template in templates/report/, and a function that makes the values which that uses by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from whet.report import cases, classes, label_sets, numbers, tagging
from whet.report.run_files import RunFiles


@dataclass(frozen=True)
class Panel:
    """`name` is the template's and the section's, `title` its heading; `key` is what has to be in metrics.json."""

    name: str
    title: str
    key: str
    values: Callable[[RunFiles], dict[str, Any]]


def confusions(run: RunFiles) -> dict[str, Any]:
    matrix = run.metrics["confusion"]
    return {
        "matrix": classes.matrix(run.labels, matrix),
        "full_matrix": classes.matrix(run.labels, matrix, classes.MOST) if len(run.labels) > classes.WHOLE else None,
        "pairs": classes.pairs(run),
        "first_classes": classes.FIRST,
        "most_classes": classes.MOST,
    }


def per_class(run: RunFiles) -> dict[str, Any]:
    return {"per_label": classes.per_label(run), "first_classes": classes.FIRST, "most_classes": classes.MOST}


def confidence(run: RunFiles) -> dict[str, Any]:
    return {
        "calibration": run.metrics["calibration"],
        "ece_interval": run.metrics["intervals"]["test"]["ece"],
        "bins": classes.bins(run),
        "reliability": classes.reliability(run),
    }


def wrong(run: RunFiles) -> dict[str, Any]:
    sure = cases.confident(run)
    above = any(case.doubt is not None for case in sure)
    return {"confident": sure, "doubted": cases.doubted(run), "doubted_above": above}


def of_numbers(run: RunFiles) -> dict[str, Any]:
    return {"numbers": run.metrics["numbers"], "far_off": numbers.far_off(run), "scatter": numbers.pictures(run)}


PANELS = (
    Panel("confusions", "Confusions", "confusion", confusions),
    Panel("classes", "Classes", "confusion", per_class),
    Panel("calibration", "Confidence", "calibration", confidence),
    Panel("mistakes", "Mistakes", "mistakes", wrong),
    Panel("entities", "Entities", "entities", tagging.entities),
    Panel("tags", "Tags", "tags", tagging.tags),
    Panel("labels", "Labels", "together", label_sets.labels),
    Panel("thresholds", "Thresholds", "thresholds", label_sets.thresholds),
    Panel("slips", "Mistakes", "slips", label_sets.slips),
    Panel("numbers", "Truth and prediction", "numbers", of_numbers),
)
"""In the order in which they stand."""


def of(run: RunFiles) -> list[Panel]:
    """The sections that this run has something for."""
    return [panel for panel in PANELS if run.metrics.get(panel.key) is not None]


def values(run: RunFiles) -> dict[str, Any]:
    """What the templates of these sections use."""
    return {name: value for panel in of(run) for name, value in panel.values(run).items()}
