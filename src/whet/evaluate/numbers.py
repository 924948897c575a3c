"""Scores of predicted numbers, and what a report shows of them.

The values are those of scikit-learn (MAE, RMSE, R²) and scipy (Spearman, Pearson), against which they are tested; here
they are a few operations on arrays, since a bootstrap asks for them a thousand times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

MOST_POINTS = 1000
"""Of the picture: of more test rows, so many are drawn at random."""
MOST_FAR = 20
"""Rows with the largest errors that are kept."""


def number_scores(truth: np.ndarray, predicted: np.ndarray, unit: float) -> dict[str, float]:
    """`rmse` and `mae` in the targets' own unit (0 at best), `r2` (1 at best; 0 is what the mean of these rows would
    get), `spearman` and `pearson` (1 at best), and `scaled_mse`, the mean squared error in units of `unit` squared.

    N numbers each. A correlation is 0 where one side does not vary: then nothing is known of the other. So is R² where
    the truth does not vary.
    """
    error = predicted - truth
    mse, around = float((error**2).mean()), float(((truth - truth.mean()) ** 2).mean())
    return {
        "rmse": mse**0.5,
        "mae": float(np.abs(error).mean()),
        "r2": 1 - mse / around if around > 0 else 0.0,
        "spearman": pearson(rankdata(truth), rankdata(predicted)),
        "pearson": pearson(truth, predicted),
        "scaled_mse": mse / unit**2,
    }


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of N numbers each; 0 where one side does not vary beyond rounding."""
    one, other = one - one.mean(), other - other.mean()
    lengths = [float(np.sqrt((side**2).sum())) for side in (one, other)]
    if min(lengths) <= 1e-12 * max(1.0, *lengths):
        return 0.0
    return float(np.clip((one * other).sum() / (lengths[0] * lengths[1]), -1, 1))


def shown(truth: np.ndarray, predicted: np.ndarray, lines: tuple[int, ...], name: str, seed: int) -> dict[str, Any]:
    """What metrics.json says of predicted numbers: the points of the picture, the rows with the largest errors, and how
    errors are spread: their mean (above 0 the model says too much), and the errors that 50 and 90 of 100 rows stay
    below."""
    error = predicted - truth
    chosen = np.arange(len(truth))
    if len(truth) > MOST_POINTS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(truth), MOST_POINTS, replace=False))
    far = np.argsort(-np.abs(error), kind="stable")[:MOST_FAR]
    return {
        "of": name,
        "rows": len(truth),
        "points": [[float(truth[row]), float(predicted[row])] for row in chosen],
        "mean_error": float(error.mean()),
        "half_below": float(np.quantile(np.abs(error), 0.5)),
        "ninety_below": float(np.quantile(np.abs(error), 0.9)),
        "far_off": [
            {"row": lines[row], "truth": float(truth[row]), "prediction": float(predicted[row])} for row in far
        ],
    }
