"""The speed benchmark's figures as tables: ratios of runs made next to each other, and test scores of both sides.

A ratio is the median over repetitions of the ratio of two cells of the same number, which were measured one after the
other; beside it are the lowest and the highest of them. The difference of two mean scores has its 95 % interval from
Welch's t-test over the seeds: where all of it is below zero, the score is lower beyond noise and the target not met.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from speed_works import Row, Work

UNITS = {"seconds": "s", "start": "s", "memory_mb": "MB"}


def of_side(cells: dict[str, dict], side: str, figure: str) -> dict[int, float]:
    """One figure of a side's cells by number of the repetition, of those that were measured and have it."""
    found = {}
    for key, cell in cells.items():
        name, number = key.rsplit("/", 1)
        if name == side and cell[figure] is not None:
            found[int(number)] = cell[figure]
    return found


def bare(cell: dict) -> float | None:
    """Seconds of our training call without its validations and checkpoints, which the peers' calls do not have."""
    phases = cell["told"].get("phases", [])
    if cell["seconds"] is None or not all("validating" in phase for phase in phases) or not phases:
        return None
    return cell["seconds"] - sum(phase["validating"] + phase["saving"] for phase in phases)


def trains_only(cell: dict) -> bool:
    """Whether a cell is of another library that does nothing in its training call but train."""
    return "peer" in cell["told"] and not cell["told"]["settings"].get("dev_inside_training")


def bare_ratio(row: Row, cells: dict[str, dict]) -> str:
    """The ratio with ours taken bare; "-" where the peer validates in its call too, and where it says nothing."""
    theirs = of_side(cells, row.peer, "seconds")
    ours = {number: bare(cells[f"{row.ours}/{number}"]) for number in of_side(cells, row.ours, "seconds")}
    both = [n for n, own in ours.items() if own is not None and n in theirs and trains_only(cells[f"{row.peer}/{n}"])]
    found = [theirs[n] / (ours[n] or 1.0) for n in both]
    return number(statistics.median(found)) if found and row.figure == "seconds" else "-"


@dataclass(frozen=True)
class Measured:
    """One row as measured: medians of both sides, the ratios in the order of repetitions."""

    row: Row
    theirs: float
    ours: float
    ratios: list[float]
    lower_score: bool

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> str:
        """Whether the row reaches its aim, at least what it must, or neither."""
        if self.row.least is None or self.row.aim is None:
            return "shown"
        if self.lower_score:
            return "no: score lower"
        sign = -1 if self.row.figure == "memory_mb" else 1
        if sign * self.ratio >= sign * self.row.aim:
            return "aim"
        return "yes" if sign * self.ratio >= sign * self.row.least else "**no**"


def measured(row: Row, cells: dict[str, dict]) -> Measured | None:
    """The row's figures; None before both sides have a cell of the same number."""
    theirs, ours = (of_side(cells, side, row.figure) for side in (row.peer, row.ours))
    both = sorted(theirs.keys() & ours.keys())
    if not both:
        return None
    ratios = [row.times * theirs[number] / ours[number] for number in both]
    if row.figure == "memory_mb":
        ratios = [1 / ratio for ratio in ratios]
    medians = [statistics.median(side[number] for number in both) for side in (theirs, ours)]
    interval = scores_apart(row, cells)
    return Measured(row, row.times * medians[0], medians[1], ratios, interval is not None and interval[1] < 0)


def scores_apart(row: Row, cells: dict[str, dict]) -> tuple[float, float] | None:
    """95 % interval of our mean test accuracy less the peer's, in points; None where a side has fewer than two."""
    from scipy.stats import ttest_ind

    ours, theirs = (list(of_side(cells, side, "accuracy").values()) for side in (row.ours, row.peer))
    if row.figure != "seconds" or min(len(ours), len(theirs)) < 2:
        return None
    if len(set(ours)) == len(set(theirs)) == 1:  # no seed made a difference, so the test has nothing to go by
        return (100 * (ours[0] - theirs[0]),) * 2
    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return 100 * float(interval.low), 100 * float(interval.high)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def mean_and_deviation(scores: list[float]) -> str:
    """Mean and standard deviation in points."""
    if not scores:
        return "-"
    spread = f" ± {100 * statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{100 * statistics.mean(scores):.2f}{spread}"


def line(row: Row, cells: dict[str, dict]) -> str:
    """The row on the terminal: ratio, its spread, the scores of both sides."""
    found = measured(row, cells)
    against = f"{row.title}, against {row.peer.rsplit('/', 1)[1]}"
    if found is None:
        return f"{against}: missing"
    low, high = number(min(found.ratios)), number(max(found.ratios))
    unit = UNITS[row.figure]
    parts = [f"{against}: ratio {number(found.ratio)} ({low} to {high}, {len(found.ratios)} times)"]
    parts.append(f"peer {number(found.theirs)} {unit}, whet {number(found.ours)} {unit}")
    if row.least is not None and row.aim is not None:
        parts.append(f"at least {row.least:g}, aim {row.aim:g}: {found.met.strip('*')}")
    if row.figure == "seconds":
        theirs, ours = (list(of_side(cells, side, "accuracy").values()) for side in (row.peer, row.ours))
        parts.append(f"test accuracy: peer {mean_and_deviation(theirs)}, whet {mean_and_deviation(ours)}")
    return "\n    ".join(parts)


def markdown(works: dict[str, Work], cells: dict[str, dict]) -> str:
    """Both tables as Markdown: ratios, then test scores."""
    rows = [row for work in works.values() for row in work.rows]
    return "\n".join([*ratio_table(rows, cells), "", *score_table(rows, cells)])


def ratio_table(rows: list[Row], cells: dict[str, dict]) -> list[str]:
    lines = ["| row | peer | peer's | whet's | ratio (low to high) | at least | aim | met? | bare |"]
    lines.append("| --- " * 9 + "|")
    for row in rows:
        found, name = measured(row, cells), row.peer.rsplit("/", 1)[1]
        name = f"{row.times} × {name}" if row.times > 1 else name
        targets = ["-" if goal is None else f"{goal:g}" for goal in (row.least, row.aim)]
        figures = ["missing", "", "", ""]
        if found:
            unit = UNITS[row.figure]
            spread = f"{number(min(found.ratios))} to {number(max(found.ratios))}"
            sides = [f"{number(value)} {unit}" for value in (found.theirs, found.ours)]
            figures = [*sides, f"{number(found.ratio)} ({spread})", found.met]
        lines.append(f"| {' | '.join([row.title, name, *figures[:3], *targets, figures[3], bare_ratio(row, cells)])} |")
    return lines


def score_table(rows: list[Row], cells: dict[str, dict]) -> list[str]:
    lines = ["| row | peer | peer's test accuracy | whet's | difference, 95 % interval |", "| --- " * 5 + "|"]
    for row in rows:
        theirs, ours = (list(of_side(cells, side, "accuracy").values()) for side in (row.peer, row.ours))
        if row.figure != "seconds" or not theirs or not ours:
            continue
        interval = scores_apart(row, cells)
        apart = f"{100 * (statistics.mean(ours) - statistics.mean(theirs)):+.2f}"
        apart += f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
        scores = [mean_and_deviation(theirs), mean_and_deviation(ours)]
        lines.append(f"| {' | '.join([row.title, row.peer.rsplit('/', 1)[1], *scores, apart])} |")
    return lines
