"""What a run scored, beside its baselines: the tables and pictures of the first part of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from whet.report import plots
from whet.report.run_files import RunFiles

BESIDE = {"ece": "Calibration error"}
"""What may have an interval beside the scores of a task."""

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
    cells: tuple[Cell, ...]
    seconds: float | None
    absent: str | None
    notes: str


def table(run: RunFiles, part: str) -> list[Line]:
    """This model and each baseline on `test` or `valid`, the best first; one that is absent stands last on `test`."""
    around = run.metrics["intervals"].get(part, {})
    names = list(run.titles)
    own = Line("This model", True, cells(run.metrics[part], around, names), run.metrics["seconds"]["train"], None, "")
    others = [one for one in run.metrics["baselines"] if part == "test" or "absent" not in one]
    others.sort(key=lambda one: goodness(one, part, run), reverse=True)
    return [own, *(baseline(one, part, names) for one in others)]


def cells(found: dict[str, float], around: dict[str, Any], names: Sequence[str]) -> tuple[Cell, ...]:
    """The scores in the order of the columns. `around` holds their intervals, or is empty."""
    none = {"low": None, "high": None}
    ends = [around.get(name, none) for name in names]
    return tuple(Cell(found[name], one["low"], one["high"]) for name, one in zip(names, ends, strict=True))


def baseline(one: dict[str, Any], part: str, names: Sequence[str]) -> Line:
    if "absent" in one:
        return Line(one["title"], False, (), None, one["absent"], "")
    chosen = ", ".join(f"{name} = {value}" for name, value in one["settings"].items())
    notes = "; ".join([*([chosen] if chosen else []), *one["cuts"]])
    around = one["intervals"] if part == "test" else {}
    return Line(one["title"], False, cells(one[part], around, names), one["seconds"], None, notes)


def drawing(lines: list[Line], run: RunFiles) -> Markup:
    """The score that chose the weights, as dots with whiskers. Nothing where there is nothing to compare with."""
    place = list(run.titles).index(run.metric)
    rows = [(line, line.cells[place]) for line in lines if not line.absent]
    points = [plots.Score(_short(line.title), c.value, c.low, c.high, line.ours) for line, c in rows]
    return plots.scores("scores", run.titles[run.metric], points) if len(points) > 1 else Markup("")


def _short(name: str) -> str:
    """A title that fits beside the picture, and that its font can write."""
    name = name.encode("ascii", "replace").decode()
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


@dataclass(frozen=True)
class Paired:
    """This model less a baseline, on the same rows; `better` says on which side of 0 this model is better. Rows that
    only one gets right are None where rows are not simply right or wrong."""

    title: str
    metric: str
    test: str
    difference: float
    low: float
    high: float
    p_value: float
    ours: int | None
    theirs: int | None
    better: str

    @property
    def shown(self) -> bool:
        """Whether the rows show a difference at all: the interval leaves out 0, and the test agrees."""
        return not self.low <= 0 <= self.high and self.p_value < SIGNIFICANT


def paired(run: RunFiles) -> list[Paired]:
    """The comparison with each baseline that has one: first that which settled the verdict, then the best."""
    found = [one for one in run.metrics["baselines"] if "comparison" in one]
    settled = run.metrics["verdict"]["against"]
    found.sort(key=lambda one: (one["name"] == settled, goodness(one, "test", run)), reverse=True)
    return [
        Paired(
            title=one["title"],
            metric=run.titles[own["metric"]],
            test=own["test"],
            difference=own["difference"],
            low=own["low"],
            high=own["high"],
            p_value=own["p_value"],
            ours=own["only_ours_right"],
            theirs=own["only_theirs_right"],
            better="below 0" if run.lower_is_better(own["metric"]) else "above 0",
        )
        for one, own in ((one, one["comparison"]) for one in found)
    ]


def goodness(one: dict[str, Any], part: str, run: RunFiles) -> float:
    """A baseline's score; the higher the better, whatever the metric. The lowest of all where it is absent."""
    if "absent" in one:
        return float("-inf")
    value = float(one[part][run.metric])
    return -value if run.lower_is_better(run.metric) else value


def best_at(run: RunFiles) -> str:
    """Which way each score is better, in words."""
    lower = [title for name, title in run.titles.items() if run.lower_is_better(name)]
    higher = [title for name, title in run.titles.items() if not run.lower_is_better(name)]
    if not higher or not lower:
        return f"Of {'all' if len(run.titles) > 1 else 'it'} {'lower' if lower else 'higher'} is better."
    return f"Of {', '.join(lower)} lower is better, of the others higher."


def warnings(run: RunFiles) -> list[tuple[str, str]]:
    """Warnings on intervals, each once, with the scores that it is about."""
    return [(names, warning) for warning, names in said_of_intervals(run, "warning") if warning]


def methods(run: RunFiles) -> list[tuple[str, str]]:
    """How the intervals were made: (method, the scores that it made them for)."""
    return said_of_intervals(run, "method")


def said_of_intervals(run: RunFiles, key: str) -> list[tuple[str, str]]:
    """What the intervals say under `key`, each once, with the scores that it is said of."""
    found: dict[str, list[str]] = {}
    for name, interval in run.metrics["intervals"]["test"].items():
        found.setdefault(interval[key], []).append((run.titles | BESIDE)[name])
    return [(said, ", ".join(names)) for said, names in found.items()]


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in the seed alone, and how far their scores lie apart."""

    runs: list[tuple[int, tuple[Cell, ...]]]
    spread: list[tuple[str, dict[str, Any]]]


def seeds(run: RunFiles) -> Seeds | None:
    found = run.metrics["seeds"]
    if found is None:
        return None
    return Seeds(
        runs=[(one["seed"], cells(one[run.part], {}, list(run.titles))) for one in found["runs"]],
        spread=[(run.titles[name], one) for name, one in found["spread"].items()],
    )
