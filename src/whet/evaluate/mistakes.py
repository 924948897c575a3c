"""Where a classifier goes wrong on the test rows: its surest mistakes, what it confuses, which labels it doubts, and
what each class costs. Rows are named by `index`, their place among the test rows; texts stay with whoever asks.

All arrays are of the N test rows: `truth` and `predicted` hold label numbers (N), `probabilities` is N x labels, each
row summing to 1. Without rows, or without mistakes, every answer is an empty list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST = 20
"""Mistakes or pairs that are returned unless another number is asked for."""


@dataclass(frozen=True)
class Mistake:
    """A row predicted wrongly. `probability` is that of the prediction, `of_truth` that of the right label."""

    index: int
    truth: str
    prediction: str
    probability: float
    of_truth: float


@dataclass(frozen=True)
class Confusion:
    """Rows of one class taken for another: `count` of them, which is `share` of the rows of class `truth`."""

    truth: str
    prediction: str
    count: int
    share: float


@dataclass(frozen=True)
class Doubt:
    """A row whose given label the model doubts, with the probability of that label and of the one it suggests."""

    index: int
    given: str
    suggested: str
    of_given: float
    of_suggested: float


@dataclass(frozen=True)
class Cost:
    """What a class costs. `missed`: its rows that were given another label; `taken`: rows of others that were given
    its label; `mistakes`: both together.

    Each mistake is missed by one class and taken by another, and counts half for each: so the `share` of all mistakes
    sums to 1 over the classes, and `lost`, the share of all rows, sums to 1 - accuracy. `lost` = 0.012 is 1.2 points
    of accuracy.
    """

    label: str
    missed: int
    taken: int
    mistakes: int
    share: float
    lost: float


def confident(truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...], most: int = MOST) -> list[Mistake]:
    """The mistakes of which the model was surest, the surest first; equally sure ones in the order of the rows."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != truth)
    order = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:most]
    return [
        Mistake(
            index=int(row),
            truth=labels[truth[row]],
            prediction=labels[predicted[row]],
            probability=float(probabilities[row, predicted[row]]),
            of_truth=float(probabilities[row, truth[row]]),
        )
        for row in order
    ]


def confused(truth: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...], most: int = MOST) -> list[Confusion]:
    """The pairs of classes confused most often, by count, then by share; a pair and its reverse are two entries."""
    size = len(labels)
    counts = np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)
    rows = counts.sum(1)
    np.fill_diagonal(counts, 0)
    left, right = counts.nonzero()
    found, share = counts[left, right], counts[left, right] / rows[left]
    return [
        Confusion(labels[left[at]], labels[right[at]], int(found[at]), float(share[at]))
        for at in np.lexsort((-share, -found))[:most]
    ]


def doubted(truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...]) -> list[Doubt]:
    """All rows whose given label the model doubts, the strongest doubt first. A doubt is no proof: the label may be
    right and the model wrong. Look at the row before you change it.

    The rule is that of the confident joint in Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty
    in dataset labels", JAIR 70 (2021). A class's threshold is the mean probability that the model gives it on the rows
    labelled with it. A row belongs confidently to the likeliest of the classes that reach their threshold on it; it is
    doubted if there is such a class and it is not the given one. As in the authors' library, a row that the model
    predicts as labelled is never doubted. A class without rows here has no threshold and is never suggested. Doubts
    are ordered by how far the suggested label's probability exceeds the given one's.
    """
    size = len(labels)
    given = probabilities[np.arange(len(truth)), truth]
    rows = np.bincount(truth, minlength=size)
    sums = np.bincount(truth, weights=given, minlength=size)
    thresholds = np.where(rows > 0, sums / np.maximum(rows, 1), np.inf)
    wrong = np.flatnonzero(probabilities.argmax(1) != truth)
    reached = np.where(probabilities[wrong] >= thresholds, probabilities[wrong], -1.0)
    suggested, best = reached.argmax(1), reached.max(1, initial=-1.0)
    excess = best - given[wrong]
    doubts = np.flatnonzero((best >= 0) & (suggested != truth[wrong]))
    return [
        Doubt(
            index=int(wrong[at]),
            given=labels[truth[wrong[at]]],
            suggested=labels[suggested[at]],
            of_given=float(given[wrong[at]]),
            of_suggested=float(best[at]),
        )
        for at in doubts[np.argsort(-excess[doubts], kind="stable")]
    ]


def costs(truth: np.ndarray, predicted: np.ndarray, labels: tuple[str, ...]) -> list[Cost]:
    """The classes that take part in mistakes, the costliest first."""
    wrong = predicted != truth
    missed = np.bincount(truth[wrong], minlength=len(labels))
    taken = np.bincount(predicted[wrong], minlength=len(labels))
    mistakes, halves = missed + taken, 2 * max(1, int(wrong.sum()))
    return [
        Cost(
            label=labels[label],
            missed=int(missed[label]),
            taken=int(taken[label]),
            mistakes=int(mistakes[label]),
            share=float(mistakes[label] / halves),
            lost=float(mistakes[label] / (2 * len(truth))),
        )
        for label in np.argsort(-mistakes, kind="stable")
        if mistakes[label]
    ]
