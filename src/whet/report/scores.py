"""What a run scored, beside its baselines: the tables and pictures of the first part of a report."""

from __future__ import annotations

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
    cells: tuple[Cell, ...]
    seconds: float | None
    absent: str | None
    notes: str


def table(run: RunFiles, part: str) -> list[Line]:
    """This model and each baseline on `test` or `valid`, the best first; one that is absent stands last on `test`."""
    around = run.metrics["intervals"].get(part, {})
    own = Line("This model", True, cells(run.metrics[part], around), run.metrics["seconds"]["train"], None, "")
    others = [one for one in run.metrics["baselines"] if part == "test" or "absent" not in one]
    others.sort(key=lambda one: goodness(one, part, run.metric), reverse=True)
    return [own, *(baseline(one, part) for one in others)]


def cells(found: dict[str, float], around: dict[str, Any]) -> tuple[Cell, ...]:
    """The scores in the order of the columns. `around` holds their intervals, or is empty."""
    none = {"low": None, "high": None}
    ends = [around.get(name, none) for name in TITLES]
    return tuple(Cell(found[name], one["low"], one["high"]) for name, one in zip(TITLES, ends, strict=True))


def baseline(one: dict[str, Any], part: str) -> Line:
    if "absent" in one:
        return Line(one["title"], False, (), None, one["absent"], "")
    chosen = ", ".join(f"{name} = {value}" for name, value in one["settings"].items())
    notes = "; ".join([*([chosen] if chosen else []), *one["cuts"]])
    around = one["intervals"] if part == "test" else {}
    return Line(one["title"], False, cells(one[part], around), one["seconds"], None, notes)


def drawing(lines: list[Line], metric: str) -> Markup:
    """The score that chose the weights, as dots with whiskers. Nothing where there is nothing to compare with."""
    place = list(TITLES).index(metric)
    rows = [(line, line.cells[place]) for line in lines if not line.absent]
    points = [plots.Score(_short(line.title), c.value, c.low, c.high, line.ours) for line, c in rows]
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
    low: float
    high: float
    p_value: float
    ours: int
    theirs: int

    @property
    def better(self) -> str:
        return "below 0" if self.metric == TITLES["log_loss"] else "above 0"

    @property
    def shown(self) -> bool:
        """Whether the rows show a difference at all: the interval leaves out 0, and the test agrees."""
        return not self.low <= 0 <= self.high and self.p_value < SIGNIFICANT


def paired(run: RunFiles) -> list[Paired]:
    """The comparison with each baseline that has one: first that which settled the verdict, then the best."""
    found = [one for one in run.metrics["baselines"] if "comparison" in one]
    settled = run.metrics["verdict"]["against"]
    found.sort(key=lambda one: (one["name"] == settled, goodness(one, "test", run.metric)), reverse=True)
    return [
        Paired(
            title=one["title"],
            metric=TITLES[own["metric"]],
            test=own["test"],
            difference=own["difference"],
            low=own["low"],
            high=own["high"],
            p_value=own["p_value"],
            ours=own["only_ours_right"],
            theirs=own["only_theirs_right"],
        )
        for one, own in ((one, one["comparison"]) for one in found)
    ]


def goodness(one: dict[str, Any], part: str, metric: str) -> float:
    """A baseline's score; the higher the better, whatever the metric. The lowest of all where it is absent."""
    if "absent" in one:
        return float("-inf")
    return -float(one[part][metric]) if metric == "log_loss" else float(one[part][metric])


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
        found.setdefault(interval[key], []).append(NAMES[name])
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
        runs=[(one["seed"], cells(one[run.part], {})) for one in found["runs"]],
        spread=[(TITLES[name], one) for name, one in found["spread"].items()],
    )
