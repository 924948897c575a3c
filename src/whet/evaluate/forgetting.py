"""What a body lost by tuning: its vectors and losses after it held against those before, with 95 % intervals.

Intervals are those of a jackknife: what a figure is without each item in turn says how far other items would have
moved it (Tukey 1958; Efron and Stein 1981, Annals of Statistics 9). It draws nothing at random, and an item (a pair
of sentences, a text) is left out whole, before and after together. How often such intervals hold the true change is in
docs/decisions/0019-forgetting.md.

P pairs of sentences, H features, N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from whet.evaluate.baselines import Absent, Baseline, Parts, frozen
from whet.evaluate.budget import Problem
from whet.evaluate.counts import ratio
from whet.evaluate.intervals import Limits, mean_limits
from whet.evaluate.metrics import better
from whet.evaluate.paired import compare


class Sides(NamedTuple):
    """Vectors of the left and of the right sentences of the pairs, P x H each."""

    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """`difference` is after minus before, `low` and `high` its interval."""

    before: float
    after: float
    difference: float
    low: float
    high: float


def spearman_change(before: Sides, after: Sides, scores: np.ndarray) -> Change:
    """Spearman's correlation of the cosine of each pair with its score (P)."""
    found = [spearman(cosines(*sides), scores) for sides in (before, after)]
    return _change(found[0], found[1])


def agreement(before: Sides, after: Sides) -> Estimate:
    """The mean cosine between a sentence's vector before and after: 1 if none has turned. An item is a pair: its two
    sentences are not independent."""
    each = [cosines(*vectors) for vectors in zip(before, after, strict=True)]
    both = (each[0] + each[1]) / 2
    low, high = np.clip(mean_limits(both), -1, 1)
    return Estimate(float(both.mean()), float(low), float(high))


def alignment(before: Sides, after: Sides) -> Estimate:
    """Linear centred kernel alignment (Kornblith et al. 2019, https://arxiv.org/abs/1905.00414): 1 if the vectors
    after are those before, rotated, shifted and scaled; about 0 if they have nothing in common.

    The plain estimate is near 1 for whatever is compared if features outnumber sentences. This one is of unbiased
    parts (Song et al. 2012, Journal of Machine Learning Research 13), and so may fall a little below 0.
    """
    one, other = (_products(np.concatenate(sides)) for sides in (before, after))
    found = ratio(_shared(one, other), np.sqrt(np.maximum(_shared(one, one) * _shared(other, other), 0)))
    low, high = np.clip(jackknife(found), -1, 1)
    return Estimate(float(np.clip(found[0], -1, 1)), float(low), float(high))


def loss_change(before: np.ndarray, after: np.ndarray, tokens: np.ndarray) -> Change:
    """Mean loss per token in nats, from each text's sum of losses (N) and the number of its tokens (N)."""
    kept = _all_and_without(len(tokens))
    found = [ratio(kept @ sums, kept @ tokens) for sums in (before, after)]
    return _change(found[0], found[1])


@dataclass(frozen=True)
class Probe:
    """How well an earlier task can be read off a body's vectors: `probabilities` of its held-out rows (T x C) by a
    logistic regression with this penalty (scikit-learn's C), chosen on validation rows."""

    probabilities: np.ndarray
    penalty: float


def probe(vectors: Parts[np.ndarray], targets: Parts[np.ndarray], classes: int, seed: int) -> Probe | Absent:
    """Fit on the training rows, penalty by accuracy on the validation rows; of the test rows only probabilities."""
    problem = Problem(
        train=targets.train,
        valid=targets.valid,
        classes=classes,
        score=lambda probabilities, truth: better(truth, probabilities, "accuracy"),
        seed=seed,
    )
    found = frozen(problem, vectors)
    return Probe(found.test, found.settings["C"]) if isinstance(found, Baseline) else found


@dataclass(frozen=True)
class AccuracyChange(Change):
    """Of held-out rows of an earlier task. The p-value is of McNemar's exact test, the interval Agresti and Min's."""

    p_value: float


def accuracy_change(before: np.ndarray, after: np.ndarray, truth: np.ndarray, seed: int) -> AccuracyChange:
    """Probabilities (T x C) of the held-out rows, and the numbers of their labels (T)."""
    found = compare("accuracy", after, before, truth, seed=seed)
    had, has = (float((one.argmax(1) == truth).mean()) for one in (before, after))
    return AccuracyChange(had, has, found.difference, found.low, found.high, found.p_value)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Row by row; 0 where a vector has no length."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return ratio((one * other).sum(1), np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation of all N items, then without each in turn: 1 + N values. Ties get their mean rank; where
    one side does not vary at all, nothing is known of the other, and it is 0."""
    kept = _all_and_without(len(one))
    ranks = [_ranks(values) for values in (one, other)]
    apart = [kept * (rank - (kept * rank).sum(1, keepdims=True) / kept.sum(1, keepdims=True)) for rank in ranks]
    squares = [(part**2).sum(1) for part in apart]
    return ratio((apart[0] * apart[1]).sum(1), np.sqrt(squares[0] * squares[1]))


def jackknife(found: np.ndarray) -> Limits:
    """The interval of a figure from what it is of all N items and without each in turn (1 + N)."""
    size = len(found) - 1
    error = np.sqrt((size - 1) * found[1:].var())
    half = student.ppf(0.975, size - 1) * error
    return Limits(found[0] - half, found[0] + half)


def _change(before: np.ndarray, after: np.ndarray) -> Change:
    low, high = jackknife(after - before)
    return Change(float(before[0]), float(after[0]), float(after[0] - before[0]), float(low), float(high))


def _all_and_without(size: int) -> np.ndarray:
    """(1 + N) x N: which items count. All, then all but the first, and so on."""
    return np.vstack([np.ones(size), 1 - np.eye(size)])


def _ranks(values: np.ndarray) -> np.ndarray:
    """(1 + N) x N: ranks of all items, then of those that are left without each in turn (its own is of no account)."""
    lower = (values[None] > values[:, None]) + 0.5 * (values[None] == values[:, None])
    return np.vstack([rankdata(values), rankdata(values) - lower])


def _products(vectors: np.ndarray) -> np.ndarray:
    """The products of all vectors with one another, 0 with themselves."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    made = centred @ centred.T
    np.fill_diagonal(made, 0.0)
    return made


def _shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The unbiased Hilbert-Schmidt independence criterion of two matrices of products (2P x 2P), of all pairs, then
    without each in turn: 1 + P values. Equation 4 of Song et al., whose sums lose the rows and columns of a pair."""
    size = len(one) // 2
    left, right = np.arange(size), np.arange(size) + size
    out = np.zeros((1 + size, 2 * size))
    out[1 + left, left] = out[1 + left, right] = 1

    def total(matrix: np.ndarray) -> np.ndarray:
        rows, twice = matrix.sum(1), np.concatenate([[0.0], 2 * matrix[left, right]])
        return matrix.sum() - 2 * (out @ rows) + twice

    sums = [(1 - out) * (matrix.sum(1) - out @ matrix) for matrix in (one, other)]
    n = 2 * size - 2 * (np.arange(1 + size) > 0)
    found = total(one * other) + total(one) * total(other) / ((n - 1) * (n - 2))
    return np.asarray((found - 2 / (n - 2) * (sums[0] * sums[1]).sum(1)) / (n * (n - 3)))
