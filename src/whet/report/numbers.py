"""Predicted numbers beside the truth: points, errors, and the rows that are furthest off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whet.report.cases import LONGEST, readable
from whet.report.run_files import RunFiles
from whet.report.svg import NARROW, THEME, WRITING, area, picture

MOST = 15
"""Rows that are shown."""
BARS = 21
"""Of the picture of errors; an odd number, so that one stands for none."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Far:
    """A test row that is far off. `text` is None where predictions.csv does not have it; `cut` counts the characters
    left out."""

    row: int
    text: str | None
    cut: int
    truth: float
    prediction: float


def far_off(run: RunFiles) -> list[Far]:
    """The rows with the largest errors."""
    texts = {row["row"]: " | ".join(row[n] for n in ("text", "text_b") if n in row) for row in run.predictions}
    found = []
    for one in run.metrics["numbers"]["far_off"][:MOST]:
        text = texts.get(str(one["row"]))
        whole = None if text is None else readable(text)
        cut = max(0, len(whole or "") - LONGEST)
        found.append(Far(one["row"], whole and whole[:LONGEST], cut, one["truth"], one["prediction"]))
    return found


def pictures(run: RunFiles) -> tuple[Markup, Markup]:
    """Prediction against truth, and how often errors are how large."""
    points = [(truth, predicted) for truth, predicted in run.metrics["numbers"]["points"]]
    return scatter(points), residuals(points)


def scatter(points: Points) -> Markup:
    """Prediction against truth. On the dashed line they are equal."""
    truth, predicted = np.array(points).T
    label = (
        f"Prediction against truth, {len(points)} rows: truth from {truth.min():.4g} to {truth.max():.4g}, "
        f"predictions from {predicted.min():.4g} to {predicted.max():.4g}."
    )
    return picture("scatter", label, partial(_scatter, points=points), (400, 380), (NARROW, 330))


def _scatter(figure: Figure, narrow: bool, *, points: Points) -> None:
    axes = area(figure, *((64, 20, 12, 48) if narrow else (68, 20, 12, 50)))
    truth, predicted = np.array(points).T
    low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
    room = 0.04 * (high - low) or 0.5
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(low - room, high + room)
    _axes(axes, "truth", "prediction")
    axes.plot([low, high], [low, high], color=THEME["muted"], linewidth=1.2, linestyle=(0, (5, 3)))
    style: dict[str, Any] = {"marker": "o", "linestyle": "none", "color": THEME["accent"], "markeredgewidth": 0}
    axes.plot(truth, predicted, markersize=5, alpha=0.45 if len(points) > 100 else 0.7, **style)


def residuals(points: Points) -> Markup:
    """How often the prediction is how far from the truth; right of 0 it says too much."""
    error = np.array([predicted - truth for truth, predicted in points])
    most = float(np.abs(error).max()) or 1.0
    counts, edges = np.histogram(error, bins=BARS, range=(-most, most))
    above = int((error > 0).sum())
    label = (
        f"Errors, prediction less truth, of {len(points)} rows: half of them within "
        f"{np.quantile(np.abs(error), 0.5):.4g}, the largest {most:.4g}; {above} predictions are too high."
    )
    return picture("residuals", label, partial(_residuals, counts=counts, edges=edges), (400, 380), (NARROW, 330))


def _residuals(figure: Figure, narrow: bool, *, counts: np.ndarray, edges: np.ndarray) -> None:
    axes = area(figure, *((50, 20, 12, 48) if narrow else (54, 20, 12, 50)))
    axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.9, align="edge", color=THEME["accent"])
    axes.axvline(0, color=THEME["muted"], linewidth=1.2, linestyle=(0, (5, 3)))
    _axes(axes, "prediction less truth", "rows")


def _axes(axes: Any, across: str, up: str) -> None:
    axes.grid(color=THEME["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(across, fontsize=WRITING, color=THEME["muted"])
    axes.set_ylabel(up, fontsize=WRITING, color=THEME["muted"])
