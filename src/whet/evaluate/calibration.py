"""How far a model's confidence is from its accuracy, and the temperature that brings them together.

Confidence is the probability of the predicted label. Bins are of equal width, closed on the right, as in Guo et al.
2017, https://arxiv.org/abs/1706.04599, which is also the source of the temperature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from whet.errors import DataError

BINS = 15
TEMPERATURES = (0.05, 20.0)
"""A fitted temperature lies between these."""
DRAWS, STEPS = 1000, 81
"""Of the calibration error's interval: draws of chance, and sizes of the true error that are tried."""


@dataclass(frozen=True)
class Bin:
    """The rows whose confidence is above `low` and at most `high`: how many, their mean confidence and the share that
    is right. Both are None in a bin without rows."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


def reliability(probabilities: np.ndarray, targets: np.ndarray) -> list[Bin]:
    """The 15 bins in order of confidence. `probabilities` N x C, `targets` N label numbers."""
    confidence, right = confidence_and_right(probabilities, targets)
    numbers = bin_numbers(confidence)
    bins = []
    for number in range(BINS):
        own = numbers == number
        rows = int(own.sum())
        means = (float(confidence[own].mean()), float(right[own].mean())) if rows else (None, None)
        bins.append(Bin(number / BINS, (number + 1) / BINS, rows, *means))
    return bins


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean distance of accuracy from confidence over the bins, weighted by rows; 0 at best. N x C, N."""
    return float(np.abs(_gaps(*confidence_and_right(probabilities, targets))).sum())


def calibration_error_limits(probabilities: np.ndarray, targets: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the expected calibration error. N x C, N.

    The error that is measured is too high where rows are few, since chance adds to each bin's distance. So a
    bootstrap of it would be too high twice over. Instead, true errors of many sizes are tried, all of the shape that
    was measured, and chance is added to each. The interval holds the sizes under which the error that was measured
    is none of the 2.5 % lowest or highest. It may lie below the error that was measured.
    """
    confidence, right = confidence_and_right(probabilities, targets)
    gaps, deviations = _gaps(confidence, right), _deviations(confidence, right)
    measured = np.abs(gaps).sum()
    chance = np.random.default_rng(seed).standard_normal((DRAWS, BINS)) * deviations
    shape = gaps if measured > 0 else deviations
    size = np.abs(shape).sum()
    if size == 0:
        return 0.0, 0.0
    far = 4 * np.abs(chance).sum(1).mean()
    tried = np.linspace(max(measured - far, 0), measured + far, STEPS)
    errors = np.array([np.abs(one / size * shape + chance).sum(1) for one in tried])
    tail = DRAWS // 40
    ends = np.partition(errors, (tail, DRAWS - 1 - tail), axis=1)
    possible = tried[(ends[:, tail] <= measured) & (measured <= ends[:, DRAWS - 1 - tail])]
    return (float(possible[0]), float(min(possible[-1], 1.0))) if len(possible) else (float(measured), float(measured))


def fit_temperature(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The temperature between 0.05 and 20 whose probabilities, softmax(outputs / temperature), have the least log-loss.

    `outputs` are logits (N x C) of validation rows, `targets` their label numbers (N). Above 1 the model was too sure.
    Log-loss is convex in 1 / temperature, so the search finds the least, and it is never above that at 1. If no
    output of any row is above that of its label, the loss falls for ever as the temperature falls: the rows set no
    scale, and the answer is 1. If all probabilities should be equal, it is the upper bound. Raises `DataError`
    without rows.
    """
    if not len(targets):
        raise DataError("a temperature is fitted on validation rows, and there are none")
    outputs = np.asarray(outputs, dtype=float)
    own = outputs[np.arange(len(targets)), targets]
    if (own == outputs.max(1)).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        factor = math.exp(-log_temperature)
        return float((logsumexp(factor * outputs, axis=1) - factor * own).mean())

    bounds = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    candidates = (0.0, *bounds, float(found.x))
    return math.exp(min(candidates, key=loss))


def confidence_and_right(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and 1 where the prediction is right, else 0, of each row. Raises `DataError` without rows."""
    if not len(targets):
        raise DataError("calibration is measured on rows, and there are none")
    return probabilities.max(1), (probabilities.argmax(1) == targets).astype(float)


def bin_numbers(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _gaps(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Accuracy minus confidence of each bin, times its share of the rows."""
    return np.bincount(bin_numbers(confidence), right - confidence, BINS) / len(right)


def _deviations(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The standard deviation of each gap: that seen in the rows, but no less than right probabilities would have.

    Without the second part, a few rows that are all right would pass for certain.
    """
    rows, numbers = len(right), bin_numbers(confidence)
    seen = np.bincount(numbers, (right - confidence) ** 2, BINS) / rows**2 - _gaps(confidence, right) ** 2 / rows
    expected = np.bincount(numbers, confidence * (1 - confidence), BINS) / rows**2
    return np.sqrt(np.maximum(seen, expected))
