"""From probabilities to labels, where a row may have any number of them: the probability from which a label is given.

Thresholds are chosen on validation rows by F1, never on test rows. Whether one for all labels or one for each, and how
many rows that needs, was measured: docs/decisions/0024-thresholds.md. N rows, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whet.evaluate.counts import ratio

FLOOR = 20
"""A label with fewer validation rows than this shares the threshold of all labels."""
HALF = 0.5
"""Where no row tells, a label is given to what is likelier than not."""
GRID = np.arange(1, 100) / 100
"""Thresholds at which a curve is drawn."""


@dataclass(frozen=True)
class Thresholds:
    """A threshold per label, in the labels' order; those of `common` labels are the one chosen for all together."""

    values: tuple[float, ...]
    common: tuple[bool, ...]

    def given(self, probabilities: np.ndarray) -> np.ndarray:
        """Which labels the rows get: N x L, true from the threshold on."""
        found: np.ndarray = probabilities >= np.array(self.values)
        return found


def chosen(truth: np.ndarray, probabilities: np.ndarray, *, per_label: bool = False, floor: int = FLOOR) -> Thresholds:
    """Thresholds from validation rows (N x L each; `truth` is 1 where a row has a label): the one whose F1 over all
    decisions is best, for all labels. With `per_label`, a label that at least `floor` rows have, and as many have not,
    gets the threshold of its own best F1."""
    everyone = best(truth.ravel(), probabilities.ravel())
    rows = truth.sum(0)
    own = (rows >= floor) & (len(truth) - rows >= floor) & per_label
    values = [best(truth[:, label], probabilities[:, label]) if alone else everyone for label, alone in enumerate(own)]
    return Thresholds(tuple(values), tuple(bool(not alone) for alone in own))


def best(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the best F1 for these decisions (one axis each): half-way between the lowest probability that
    is still given the label and the highest that is not. Of equally good ones that nearest to 0.5; 0.5 where no row
    has the label."""
    if not truth.any():
        return HALF
    order = np.argsort(-probabilities, kind="stable")
    sorted_truth, values = truth[order].astype(float), probabilities[order].astype(float)
    f1 = 2 * np.cumsum(sorted_truth) / (np.arange(1, len(values) + 1) + sorted_truth.sum())
    below = np.append(values[1:], 0.0)
    ends = np.flatnonzero(values > below)
    if not len(ends):
        return HALF
    middles = (values + below)[ends] / 2
    equal = np.isclose(f1[ends], f1[ends].max(), rtol=1e-9)
    return float(min(middles[equal], key=lambda middle: abs(middle - HALF)))


def curve(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, list[float]]:
    """`precision`, `recall` and `f1` of one label (N each) at the thresholds 0.01, 0.02, ... 0.99; precision is 0
    where no row is given the label."""
    given = probabilities[:, None] >= GRID[None, :]
    right, predicted = (given & (truth[:, None] > 0)).sum(0), given.sum(0)
    found = {
        "precision": ratio(right, predicted),
        "recall": ratio(right, np.full(len(GRID), truth.sum())),
        "f1": ratio(2 * right, predicted + truth.sum()),
    }
    return {name: [round(float(one), 4) for one in values] for name, values in found.items()}
