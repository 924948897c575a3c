"""The picture of a threshold: precision, recall and F1 of validation rows against it, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from whet.report.svg import NARROW, THEME, WIDE, WRITING, area, picture

LINES = {"f1": ("F1", "ink", "solid", 2.4), "precision": ("precision", "accent", (0, (6, 3)), 1.8),
         "recall": ("recall", "second", (0, (2, 2)), 1.8)}  # fmt: skip


def threshold_curve(key: str, curve: dict[str, Sequence[float]], chosen: float) -> Markup:
    """`curve` holds f1, precision and recall at thresholds spaced evenly between 0 and 1, both left out."""
    place = min(range(len(curve["f1"])), key=lambda at: abs(threshold(at, curve) - chosen))
    told = ", ".join(f"{name} {curve[line][place]:.2f}" for line, (name, *_) in LINES.items())
    label = f"Precision, recall and F1 on validation rows against the threshold. Chosen: {chosen:.2f}, with {told}."
    return picture(key, label, partial(_draw, curve=curve, chosen=chosen), (WIDE, 250), (NARROW, 250))


def threshold(place: int, curve: dict[str, Sequence[float]]) -> float:
    return (place + 1) / (len(curve["f1"]) + 1)


def _draw(figure: Figure, narrow: bool, *, curve: dict[str, Sequence[float]], chosen: float) -> None:
    axes = area(figure, *((40, 10, 30, 46) if narrow else (52, 20, 30, 46)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(axis="y", color=THEME["line"], linewidth=1)
    axes.set_xlabel("threshold", fontsize=WRITING, color=THEME["muted"])
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_yticks(ticks, ["0", "", "0.5", "", "1"])
    places = [threshold(place, curve) for place in range(len(curve["f1"]))]
    for number, (line, (name, colour, style, width)) in enumerate(LINES.items()):
        axes.plot(places, curve[line], color=THEME[colour], linewidth=width, linestyle=style)
        at = number * (0.34 if narrow else 0.2)
        inside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([at, at + 0.07], [1.09, 1.09], color=THEME[colour], linewidth=width, linestyle=style, **inside)
        axes.text(at + 0.085, 1.09, name, fontsize=WRITING, color=THEME["ink"], va="center", **inside)
    axes.axvline(chosen, color=THEME["muted"], linewidth=1.4)
    side, apart = ("right", -0.012) if chosen > 0.5 else ("left", 0.012)
    axes.text(chosen + apart, 0.04, f"chosen: {chosen:.2f}", fontsize=WRITING, color=THEME["muted"], ha=side)
