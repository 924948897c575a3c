"""Scores as functions of a confusion matrix's counts, and what one row more in a cell does to them.

Counts are ... x C x C, true label by row, predicted label by column; leading axes are as many matrices at once.
The scores equal scikit-learn's, which computes them one matrix at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Margins(NamedTuple):
    """Rows per label (... x C): predicted rightly, having the label, given the label."""

    right: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def tally(truth: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    """The counts (C x C) of true and predicted label numbers (N each)."""
    cells = np.bincount(truth * labels + predicted, minlength=labels * labels)
    return cells.reshape(labels, labels)


def margins(counts: np.ndarray) -> Margins:
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return Margins(right.astype(float), counts.sum(-1).astype(float), counts.sum(-2).astype(float))


def macro_f1(rows: Margins) -> np.ndarray:
    """Mean F1 over the labels that occur in truth or prediction."""
    occurring = rows.truth + rows.predicted > 0
    return f1_per_label(rows).sum(-1) / occurring.sum(-1)


def f1_per_label(rows: Margins) -> np.ndarray:
    """F1 of each label, 0 for one that does not occur."""
    return ratio(2 * rows.right, rows.truth + rows.predicted)


def mcc(rows: Margins) -> np.ndarray:
    """Matthews' correlation of C labels (Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006); 0 where
    truth or prediction holds one label only."""
    shared, of_truth, of_predicted = _covariances(rows)
    return ratio(shared, np.sqrt(of_truth * of_predicted))


def macro_f1_influence(counts: np.ndarray) -> np.ndarray:
    """The influence of each cell on macro-F1 (... x C x C); see `standard_error`."""
    rows = margins(counts)
    total = rows.truth + rows.predicted
    labels = (total > 0).sum(-1)[..., None, None]
    own = ratio(f1_per_label(rows), total)
    influence = -(own[..., :, None] + own[..., None, :])
    influence += np.eye(counts.shape[-1]) * ratio(2.0, total)[..., None]
    return counts.sum((-1, -2))[..., None, None] * influence / labels


def mcc_influence(counts: np.ndarray) -> np.ndarray:
    """The influence of each cell on Matthews' correlation (... x C x C); see `standard_error`."""
    rows, size = margins(counts), counts.sum((-1, -2)).astype(float)[..., None]
    shared, of_truth, of_predicted = (part[..., None, None] for part in _covariances(rows))
    truth, predicted = rows.truth / size, rows.predicted / size
    by_truth = -2 * (truth - (truth * truth).sum(-1, keepdims=True))[..., :, None]
    by_predicted = -2 * (predicted - (predicted * predicted).sum(-1, keepdims=True))[..., None, :]
    agreement = np.eye(counts.shape[-1]) - predicted[..., :, None] - truth[..., None, :]
    agreement = agreement - (counts * agreement).sum((-1, -2), keepdims=True) / size[..., None]
    scale = np.sqrt(of_truth * of_predicted)
    slope = ratio(shared, scale) / 2
    return ratio(agreement, scale) - slope * (ratio(by_truth, of_truth) + ratio(by_predicted, of_predicted))


def standard_error(counts: np.ndarray, influence: np.ndarray) -> np.ndarray:
    """The standard error of a score by the delta method, from its influence: the derivative of the score by the share
    of rows in each cell, with mean 0 over the rows."""
    return np.sqrt((counts * influence**2).sum((-1, -2))) / counts.sum((-1, -2))


def ratio(above: np.ndarray | float, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where `below` is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0)


def _covariances(rows: Margins) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance of truth and prediction as indicators summed over labels, and the variance of each."""
    size = rows.truth.sum(-1, keepdims=True)
    truth, predicted = rows.truth / size, rows.predicted / size
    shared = (rows.right / size - truth * predicted).sum(-1)
    return shared, 1 - (truth * truth).sum(-1), 1 - (predicted * predicted).sum(-1)
