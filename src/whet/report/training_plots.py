"""The pictures of training: its curves, and the plan as groups of the model against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from whet.report.svg import NARROW, THEME, WIDE, WRITING, area, picture

MARKED = 40
"""Points of a line up to which each has a marker."""

TALL = 16
"""Groups of a model up to which each has its name in the picture of the plan."""


@dataclass(frozen=True)
class Curves:
    """What training left behind, by steps of the whole run.

    `training` holds (step, mean loss), `losses` and `scores` (step, value on the validation rows); `borders` are the
    last steps of the phases, in order; `kept` is the step whose weights are kept; `overfitting` the step after which
    the run overfits, if it does.
    """

    training: list[tuple[float, float]]
    losses: list[tuple[float, float]]
    scores: list[tuple[float, float]]
    score: str
    borders: list[int]
    kept: int
    overfitting: int | None

    @property
    def text(self) -> str:
        parts = [_course("Training loss", self.training), _course("validation loss", self.losses)]
        parts += [_course(f"validation {self.score}", self.scores), f"weights kept: those of step {self.kept}"]
        if len(self.borders) > 1:
            parts.append(f"phases end at steps {', '.join(str(step) for step in self.borders)}")
        if self.overfitting is not None:
            parts.append(f"overfitting since step {self.overfitting}")
        return "Learning curves. " + "; ".join(part for part in parts if part) + "."


def _course(name: str, points: list[tuple[float, float]]) -> str:
    if not points:
        return ""
    values = [value for _, value in points]
    lowest, highest = min(values), max(values)
    ends = f"from {values[0]:.3f} at step {points[0][0]:.0f} to {values[-1]:.3f} at step {points[-1][0]:.0f}"
    return f"{name} {ends}, lowest {lowest:.3f}, highest {highest:.3f}"


def curves(found: Curves) -> Markup:
    """Losses above, the score that chooses the weights below, along the same steps."""
    return picture("curves", found.text, partial(_curves, found=found), (WIDE, 430), (NARROW, 430))


def _curves(figure: Figure, narrow: bool, *, found: Curves) -> None:
    left, right = (42, 12) if narrow else (54, 96)
    height = figure.get_size_inches()[1] * 72
    above = area(figure, left, right, 46, 0.46 * height)
    below = area(figure, left, right, 0.64 * height, 44)
    end = max((*found.borders, *(step for step, _ in (*found.training, *found.losses))), default=1)
    for axes in (above, below):
        axes.set_xlim(0, end)
        axes.grid(axis="y", color=THEME["line"], linewidth=1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 6, integer=True))
        for border in found.borders[:-1]:
            axes.axvline(border, color=THEME["muted"], linewidth=1, linestyle=(0, (1, 3)))
        if found.overfitting is not None and found.overfitting < end:
            axes.axvspan(found.overfitting, end, color=THEME["second"], alpha=0.1, linewidth=0)
        axes.axvline(found.kept, color=THEME["accent"], linewidth=1, linestyle=(0, (5, 3)))
    above.tick_params(labelbottom=False)
    _line(above, found.training, "muted")
    _line(above, found.losses, "second", marker="s", dashes=(5, 2))
    _line(below, found.scores, "accent", marker="o")
    highest = max((value for _, value in (*found.training, *found.losses)), default=1)
    above.set_ylim(0, 1.08 * highest or 1)
    below.margins(y=0.16)
    if narrow:
        _names(above)
    else:
        _ends(above, [("training", "muted", found.training), ("validation", "second", found.losses)])
        _ends(below, [(found.score, "accent", found.scores)])
    style: dict[str, Any] = {"fontsize": WRITING, "color": THEME["ink"], "parse_math": False}
    _titled(above, "Loss, nats per row", **style)
    _titled(below, f"Validation {found.score}", **style)
    if len(found.borders) > 1:
        _phases(above, found, end)
    below.set_xlabel("step", fontsize=WRITING, color=THEME["muted"])
    for step, value in found.scores:
        if step == found.kept:
            below.plot([step], [value], marker="o", markersize=12, color=THEME["accent"], markerfacecolor="none")


def _line(axes: Axes, points: list[tuple[float, float]], colour: str, marker: str = "", **style: Any) -> None:
    """A line, with a marker for each point unless there are many."""
    if points:
        steps, values = zip(*points, strict=True)
        shape = marker if len(points) <= MARKED else ""
        style |= {"marker": shape, "markersize": 4.5, "clip_on": False}
        axes.plot(steps, values, color=THEME[colour], linewidth=1.8, **style)


def _ends(axes: Axes, lines: list[tuple[str, str, list[tuple[float, float]]]]) -> None:
    """The name of each line (name, colour, points) at its end, moved up where it would lie on the one below it."""
    free = -1.0
    for name, colour, points in sorted((line for line in lines if line[2]), key=lambda line: line[2][-1][1]):
        step, value = points[-1]
        height = float(axes.transData.transform((step, value))[1])
        free = max(free, height)
        style: dict[str, Any] = {"fontsize": WRITING, "color": THEME[colour], "va": "center", "parse_math": False}
        axes.annotate(
            name, (step, value), (10, free - height), textcoords="offset points", annotation_clip=False, **style
        )
        free += 1.3 * WRITING


def _titled(axes: Axes, text: str, **style: Any) -> None:
    axes.annotate(text, (0, 1), (0, 9), xycoords="axes fraction", textcoords="offset points", **style)


def _phases(axes: Axes, found: Curves, end: float) -> None:
    """Numbers of the phases, above; those of very short ones have no room."""
    starts = [0, *found.borders[:-1]]
    for number, (start, stop) in enumerate(zip(starts, found.borders, strict=True), start=1):
        if stop - start < 0.04 * end:
            continue
        text = f"phase {number}" if stop - start > 0.2 * end else str(number)
        style: dict[str, Any] = {"ha": "center", "color": THEME["muted"], "fontsize": WRITING - 1}
        middle, place = (start + stop) / 2, axes.get_xaxis_transform()
        axes.annotate(text, (middle, 1), (0, 27), xycoords=place, textcoords="offset points", **style)


def _names(axes: Axes) -> None:
    """The names of the two losses, above: on a narrow picture there is no room at the ends of the lines."""
    for place, (name, colour) in enumerate((("training", "muted"), ("validation", "second"))):
        style: dict[str, Any] = {"fontsize": WRITING - 1, "color": THEME[colour], "ha": "right"}
        shift = (-78 + 78 * place, 9)
        axes.annotate(name, (1, 1), shift, xycoords="axes fraction", textcoords="offset points", **style)


@dataclass(frozen=True)
class Band:
    """A group of the model, and what becomes of it in each phase: `moves`, `passed` (stands still but is computed in
    every step) or `once` (computed once)."""

    name: str
    states: tuple[str, ...]


def plan(bands: Sequence[Band], lengths: Sequence[int], names: Sequence[str]) -> Markup:
    """Groups from the output at the top to the input at the bottom, time to the right. `lengths` are the steps and
    `names` the names of the phases; `bands` come from the input to the output."""
    told = []
    for number, (name, steps) in enumerate(zip(names, lengths, strict=True)):
        moving = [band.name for band in bands if band.states[number] == "moves"]
        which = f"{moving[0]} to {moving[-1]}" if len(moving) > 1 else (moving[0] if moving else "nothing")
        once = sum(band.states[number] == "once" for band in bands)
        below = f", {once} groups below computed once" if once else ""
        told.append(
            f"phase {number + 1}, {name}, {steps} steps: moves {which} ({len(moving)} of {len(bands)} groups){below}"
        )
    label, draw = f"The plan. {'; '.join(told)}.", partial(_plan, bands=bands, lengths=lengths)
    height = 52 + len(bands) * (24 if len(bands) <= TALL else 11)
    return picture("plan-picture", label, draw, (WIDE, height), (NARROW, height))


def _plan(figure: Figure, narrow: bool, *, bands: Sequence[Band], lengths: Sequence[int]) -> None:
    axes = area(figure, *((96, 4, 24, 26) if narrow else (130, 12, 24, 26)))
    # A phase of a few steps among thousands still gets room for its number.
    widths = [max(steps, 0.05 * sum(lengths)) for steps in lengths]
    starts = [sum(widths[:number]) for number in range(len(widths))]
    axes.set_xlim(0, sum(widths) or 1)
    axes.set_ylim(0, len(bands))
    axes.set_xticks([])
    every = 1 if len(bands) <= TALL else 4
    shown = [place for place in range(len(bands)) if place % every == 0 or place == len(bands) - 1]
    names = [_drawable(bands[place].name, place, 12 if narrow else 16) for place in shown]
    axes.set_yticks([place + 0.5 for place in shown], names, parse_math=False)
    colours = {"moves": "accent", "passed": "soft", "once": "paper"}
    gap = 0.0035 * sum(widths)
    for place, band in enumerate(bands):
        for start, width, state in zip(starts, widths, band.states, strict=True):
            edge: dict[str, Any] = {"edgecolor": THEME["line"], "linewidth": 1} if state == "once" else {"linewidth": 0}
            cell = Rectangle(
                (start + gap, place + 0.06), width - 2 * gap, 0.88, facecolor=THEME[colours[state]], **edge
            )
            axes.add_patch(cell)
    style: dict[str, Any] = {"fontsize": WRITING, "color": THEME["muted"], "ha": "center"}
    for number, (start, width, steps) in enumerate(zip(starts, widths, lengths, strict=True), start=1):
        wide = width > 0.22 * sum(widths)
        axes.annotate(
            f"phase {number}" if wide else str(number),
            (start + width / 2, len(bands)),
            (0, 7),
            textcoords="offset points",
            **style,
        )
        if wide or len(lengths) < 5:
            axes.annotate(
                f"{steps} steps" if wide else str(steps),
                (start + width / 2, 0),
                (0, -17),
                textcoords="offset points",
                **style,
            )


def _drawable(name: str, place: int, most: int) -> str:
    name = name if name.isascii() else f"group {place + 1}"
    return name if len(name) <= most else f"{name[: most - 3]}..."
