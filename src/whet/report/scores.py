"""What a run scored, beside its baselines: the tables and pictures of the first part of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from whet.report import plots
from whet.report.run_files import RunFiles

TITLES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "mcc": "MCC", "log_loss": "Log-loss"}
"""Scores in the order of the columns. Of log-loss 0 is best, of the others 1."""

NAMES = {**TITLES, "ece": "Calibration error"}
"""Whatever may have an interval."""


LONGEST = 38
"""Characters of a title beside a picture."""

SIGNIFICANT = 0.05
"""P-values below this count as a difference."""


@dataclass(frozen=True)
class Cell:
    """A score with the ends of its 95 % interval, where there is one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """One line of a table of scores: this model or a baseline, which may be `absent` for a reason."""

    title: str
    ours: bool
    cells: tuple[Cell | None, ...]
    seconds: float | None
    absent: str | None
    notes: str


def table(run: RunFiles, part: str) -> list[Line]:
    """This model and each baseline on `test` or `valid`, the best first; no lines where there are no scores. Baselines
    are scored on the test rows; on others they have a line only if they were scored there."""
    found = run.metrics.get(part)
    if not found:
        return []
    own = Line("This model", True, cells(found, intervals(run, part)), training_seconds(run), None, "")
    others = sorted(run.metrics.get("baselines") or [], key=lambda one: goodness(one, part, run.metric), reverse=True)
    return [own, *(baseline(one, part) for one in others if part == "test" or one.get(part))]


def cells(found: dict[str, Any], around: dict[str, Any]) -> tuple[Cell | None, ...]:
    """The scores in the order of the columns; None for one that is absent or no number."""
    return tuple(cell(found[name], around.get(name)) if number(found.get(name)) else None for name in TITLES)


def number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def cell(value: float, interval: dict[str, Any] | None) -> Cell:
    ends = interval or {}
    return Cell(value, ends.get("low"), ends.get("high"))


def intervals(run: RunFiles, part: str) -> dict[str, Any]:
    return (run.metrics.get("intervals") or {}).get(part) or {}


def training_seconds(run: RunFiles) -> float | None:
    return (run.metrics.get("seconds") or {}).get("train")


def baseline(one: dict[str, Any], part: str) -> Line:
    # Intervals of a baseline are those of the test rows.
    around = (one.get("intervals") or {}) if part == "test" else {}
    chosen = ", ".join(f"{name} = {value}" for name, value in (one.get("settings") or {}).items())
    notes = "; ".join([*([chosen] if chosen else []), *(one.get("cuts") or [])])
    return Line(title(one), False, cells(one.get(part) or {}, around), one.get("seconds"), one.get("absent"), notes)


def title(one: dict[str, Any]) -> str:
    return str(one.get("title") or one["name"])


def drawing(lines: list[Line], metric: str) -> Markup:
    """The score that chose the weights, as dots with whiskers. Nothing where there is nothing to compare with."""
    place = list(TITLES).index(metric)
    rows = [(line, line.cells[place]) for line in lines]
    points = [plots.Score(_short(line.title), c.value, c.low, c.high, line.ours) for line, c in rows if c]
    return plots.scores("scores", TITLES[metric], points) if len(points) > 1 else Markup("")


def _short(name: str) -> str:
    """A title that fits beside the picture, and that its font can write."""
    name = name.encode("ascii", "replace").decode()
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


@dataclass(frozen=True)
class Paired:
    """This model less a baseline, on the same rows. Of log-loss, below 0 this model is better; else above."""

    title: str
    metric: str
    test: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    ours: int | None
    theirs: int | None

    @property
    def better(self) -> str:
        return "below 0" if self.metric == TITLES["log_loss"] else "above 0"

    @property
    def shown(self) -> bool:
        """Whether the rows show a difference at all: the interval leaves out 0, and the test agrees."""
        if self.low is None or self.high is None or self.p_value is None:
            return False
        return not self.low <= 0 <= self.high and self.p_value < SIGNIFICANT


def paired(run: RunFiles) -> list[Paired]:
    """The comparison with each baseline that has one: first that which settled the verdict, then the best."""
    found = [one for one in run.metrics.get("baselines") or [] if one.get("comparison")]
    settled = (run.metrics.get("verdict") or {}).get("against")
    return [
        Paired(
            title=title(one),
            metric=TITLES.get(one["comparison"]["metric"], str(one["comparison"]["metric"])),
            test=str(one["comparison"].get("test") or ""),
            difference=one["comparison"]["difference"],
            low=one["comparison"].get("low"),
            high=one["comparison"].get("high"),
            p_value=one["comparison"].get("p_value"),
            ours=one["comparison"].get("only_ours_right"),
            theirs=one["comparison"].get("only_theirs_right"),
        )
        for one in sorted(
            found, key=lambda one: (one["name"] == settled, goodness(one, "test", run.metric)), reverse=True
        )
    ]


def goodness(one: dict[str, Any], part: str, metric: str) -> float:
    """A baseline's score; the higher the better, whatever the metric. The lowest of all where it has none."""
    value = (one.get(part) or {}).get(metric)
    if value is None:
        return float("-inf")
    return -float(value) if metric == "log_loss" else float(value)


def warnings(run: RunFiles) -> list[tuple[str, str]]:
    """Warnings on intervals, each once, with the scores that it is about."""
    found: dict[str, list[str]] = {}
    for name, interval in intervals(run, run.part).items():
        if interval and interval.get("warning"):
            found.setdefault(str(interval["warning"]), []).append(NAMES.get(name, name))
    return [(", ".join(names), text) for text, names in found.items()]


def methods(run: RunFiles) -> list[tuple[str, str]]:
    """How the intervals were made: (method, the scores that it made them for)."""
    found: dict[str, list[str]] = {}
    for name, interval in intervals(run, run.part).items():
        if interval and interval.get("method"):
            found.setdefault(str(interval["method"]), []).append(NAMES.get(name, name))
    return [(method, ", ".join(names)) for method, names in found.items()]


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in the seed alone, and how far their scores lie apart."""

    runs: list[tuple[int, tuple[Cell | None, ...]]]
    spread: list[tuple[str, dict[str, Any]]]


def seeds(run: RunFiles) -> Seeds | None:
    found = run.metrics.get("seeds")
    if not found:
        return None
    return Seeds(
        runs=[(one["seed"], cells(one.get(run.part) or {}, {})) for one in found.get("runs") or []],
        spread=[(TITLES[name], found["spread"][name]) for name in TITLES if name in (found.get("spread") or {})],
    )
