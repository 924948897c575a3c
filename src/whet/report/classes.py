"""The classes of a run: which are confused, what each one costs, how far probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from whet.report import plots
from whet.report.run_files import RunFiles

WHOLE = 14
"""Classes up to which the confusion matrix is shown as it is; of more, the worst are shown and the rest folded."""

FIRST = 12
"""Classes shown first: in a folded matrix, and in the table of classes before it has to be opened."""

MOST = 100
"""Classes in the full tables; a page with more would be slow, and metrics.json has them all."""


@dataclass(frozen=True)
class Matrix:
    """Rows: true label; columns: predicted label. `shares` are counts by the rows of the true label (0 to 1).

    `folded` is the number of classes that the last row and column stand for together; 0 where each stands for itself.
    """

    labels: list[str]
    counts: list[list[int]]
    shares: list[list[float]]
    folded: int


def matrix(labels: Sequence[str], counts: list[list[int]], shown: int = WHOLE) -> Matrix:
    """The confusion matrix; of more than `shown` classes, the `FIRST` with most mistakes, and all others as one."""
    if len(labels) <= shown:
        return Matrix(list(labels), counts, _shares(counts), 0)
    worst = sorted(range(len(labels)), key=lambda number: -mistakes_of(counts, number))[:FIRST]
    chosen = [[number] for number in sorted(worst)]
    rest = [number for number in range(len(labels)) if number not in worst]
    parts = [*chosen, rest]
    folded = [[sum(counts[row][column] for row in left for column in right) for right in parts] for left in parts]
    names = [*(labels[number] for number in sorted(worst)), f"all others ({len(rest)})"]
    return Matrix(names, folded, _shares(folded), len(rest))


def mistakes_of(counts: list[list[int]], number: int) -> int:
    """Rows of a class that were given another label, and rows of others that were given its label."""
    return sum(counts[number]) + sum(row[number] for row in counts) - 2 * counts[number][number]


def _shares(counts: list[list[int]]) -> list[list[float]]:
    return [[count / max(1, sum(row)) for count in row] for row in counts]


def pairs(run: RunFiles, most: int = 15) -> list[dict[str, Any]]:
    """The pairs confused most often."""
    return list(run.metrics["mistakes"]["confused"][:most])


def per_label(run: RunFiles) -> list[dict[str, Any]]:
    """The classes, the costliest first; of those that cost as much, the lowest F1 first."""
    return sorted(run.metrics["per_label"], key=lambda row: (-row["cost"], row["f1"]))


def bins(run: RunFiles) -> list[plots.Bin]:
    found = run.metrics["calibration"]["bins"]
    names = ("low", "high", "rows", "confidence", "accuracy")
    # An empty bin has no mean: whatever stands there is not shown.
    return [plots.Bin(**{name: one[name] for name in names}) for one in found if one["rows"]]


def reliability(run: RunFiles) -> Markup:
    return plots.reliability(bins(run))
