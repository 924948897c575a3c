"""The pictures of scores and confidence, each with a text alternative that carries its figures. They take plain values
and read no file. Names that a person chose are not drawn, only written in the tables beside: no font has every script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whet.report.svg import NARROW, THEME, WIDE, WRITING, area, picture


@dataclass(frozen=True)
class Score:
    """A score with its interval (None where there is none). `ours` marks the one that the page is about."""

    name: str
    value: float
    low: float | None
    high: float | None
    ours: bool = False

    @property
    def text(self) -> str:
        return f"{self.value:.3f}" + ("" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})")

    @property
    def ends(self) -> tuple[float, float]:
        low = self.value if self.low is None else self.low
        return low, self.value if self.high is None else self.high


def scores(key: str, what: str, rows: Sequence[Score]) -> Markup:
    """Dots with whiskers, one line per score, in the order given. `what` names the score, e.g. "Accuracy"."""
    label = f"{what}, with 95 % intervals: " + "; ".join(f"{row.name} {row.text}" for row in rows) + "."
    return picture(key, label, partial(_scores, rows=rows), (WIDE, 44 + 34 * len(rows)), (NARROW, 44 + 64 * len(rows)))


def _scores(figure: Figure, narrow: bool, *, rows: Sequence[Score]) -> None:
    axes = area(figure, *((8, 8, 6, 30) if narrow else (275, 205, 6, 30)))
    low, high = scale(rows)
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if narrow:
        axes.hlines([place + 0.3 for place in range(len(rows))], low, high, color=THEME["line"], linewidth=1)
    else:
        axes.grid(axis="x", color=THEME["line"], linewidth=1)
    for place, row in enumerate(rows):
        _whisker(axes, place + (0.3 if narrow else 0), row, low, high)
        weight, colour = ("bold", THEME["ink"]) if row.ours else ("normal", THEME["muted"])
        style: dict[str, Any] = {
            "color": THEME["ink"],
            "fontsize": WRITING,
            "weight": weight,
            "parse_math": False,
            "va": "center",
        }
        if narrow:
            _beside(axes, 0, place - 0.3, row.name, ha="left", **style)
            _beside(axes, 0, place - 0.02, row.text, ha="left", **style | {"color": colour})
        else:
            _beside(axes, -0.04, place, row.name, ha="right", **style)
            _beside(axes, 1.04, place, row.text, ha="left", **style | {"color": colour})


def scale(rows: Sequence[Score]) -> tuple[float, float]:
    """The ends of the axis: all scores, unless one lies so far off (a majority vote among many labels) that the
    others would lie on one another. That one gets an arrow at the edge."""
    kept = sorted(rows, key=lambda row: row.value)
    ours = next((row.value for row in rows if row.ours), kept[-1].value)
    for far in sorted(rows, key=lambda row: -abs(row.value - ours)):
        rest = [row for row in kept if row is not far]
        if len(rest) > 1 and not far.ours and _span(kept) > 4 * _span(rest) > 0:
            kept = rest
    low, high = min(row.ends[0] for row in kept), max(row.ends[1] for row in kept)
    margin = 0.08 * (high - low) or 0.05
    return low - margin, high + margin


def _span(rows: Sequence[Score]) -> float:
    return max(row.ends[1] for row in rows) - min(row.ends[0] for row in rows)


def _whisker(axes: Axes, place: float, row: Score, low: float, high: float) -> None:
    colour = THEME["accent"] if row.ours else THEME["muted"]
    if not low <= row.value <= high:
        edge, marker = (low, "<") if row.value < low else (high, ">")
        axes.plot([edge], [place], marker=marker, markersize=7, color=colour, clip_on=False)
        return
    axes.plot(row.ends, [place, place], color=colour, linewidth=3 if row.ours else 1.6, solid_capstyle="round")
    face = colour if row.ours else THEME["paper"]
    axes.plot([row.value], [place], marker="o", markersize=9, color=colour, markerfacecolor=face, markeredgewidth=1.6)


def _beside(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a share of the width and a place of the y axis."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), **style)


@dataclass(frozen=True)
class Bin:
    """The rows whose probability lies between `low` and `high`: mean probability and share predicted rightly."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def reliability(bins: Sequence[Bin]) -> Markup:
    """Accuracy against confidence. On the diagonal a probability is worth its face; a dot's area shows its rows."""
    told = "; ".join(f"confidence {b.confidence:.2f}, accuracy {b.accuracy:.2f}, {b.rows} rows" for b in bins if b.rows)
    label = f"Reliability diagram. {told}."
    return picture("reliability", label, partial(_reliability, bins=bins), (400, 380), (NARROW, 330))


def _reliability(figure: Figure, narrow: bool, *, bins: Sequence[Bin]) -> None:
    axes = area(figure, *((58, 24, 12, 48) if narrow else (62, 24, 12, 50)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(color=THEME["line"], linewidth=1)
    axes.set_xlabel("confidence: probability of the prediction", fontsize=WRITING, color=THEME["muted"])
    axes.set_ylabel("accuracy", fontsize=WRITING, color=THEME["muted"])
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_yticks(ticks, ["0", "0.25", "0.5", "0.75", "1"])
    axes.plot([0, 1], [0, 1], color=THEME["muted"], linewidth=1.2, linestyle=(0, (5, 3)))
    most = max((one.rows for one in bins), default=1)
    for one in bins:
        if not one.rows:
            continue
        x, y = one.confidence, one.accuracy
        axes.plot([x, x], [x, y], color=THEME["second"], linewidth=1.6)
        size = 5 + 15 * (one.rows / most) ** 0.5
        axes.plot([x], [y], marker="o", markersize=size, color=THEME["accent"], alpha=0.85, clip_on=False)
