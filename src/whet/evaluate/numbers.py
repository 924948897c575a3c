"""Scores of predicted numbers, and what a report shows of them.

The values are those of scikit-learn (MAE, RMSE, R²) and scipy (Spearman, Pearson), against which they are tested; here
they are a few operations on arrays, since a bootstrap asks for them a thousand times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from whet.evaluate.counts import ratio

MOST_POINTS = 1000
"""Of the picture: of more test rows, so many are drawn at random."""
MOST_FAR = 20
"""Rows with the largest errors that are kept."""


def number_scores(truth: np.ndarray, predicted: np.ndarray, unit: float) -> dict[str, np.ndarray]:
    """`rmse` and `mae` in the targets' own unit (0 at best), `r2` (1 at best; 0 is what the mean of these rows would
    get), `spearman` and `pearson` (1 at best), and `scaled_mse`, the mean squared error in units of `unit` squared.

    ... x N numbers each; leading axes are as many sets of rows at once. A correlation is 0 where one side does not
    vary: then nothing is known of the other. So is R² where the truth does not vary.
    """
    error = predicted - truth
    mse, around = (error**2).mean(-1), ((truth - truth.mean(-1, keepdims=True)) ** 2).mean(-1)
    return {
        "rmse": np.sqrt(mse),
        "mae": np.abs(error).mean(-1),
        "r2": np.where(around > (1e-12 * np.abs(truth).max(-1)) ** 2, 1 - ratio(mse, around), 0.0),
        "spearman": pearson(rankdata(truth, axis=-1), rankdata(predicted, axis=-1)),
        "pearson": pearson(truth, predicted),
        "scaled_mse": mse / unit**2,
    }


def pearson(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of ... x N numbers each; 0 where one side does not vary beyond rounding."""
    apart = [side - side.mean(-1, keepdims=True) for side in (one, other)]
    lengths = [np.sqrt((side**2).sum(-1)) for side in apart]
    sizes = [np.abs(side).max(-1) * np.sqrt(side.shape[-1]) for side in (one, other)]
    varies = np.logical_and(*(length > 1e-12 * size for length, size in zip(lengths, sizes, strict=True)))
    return np.where(varies, np.clip(ratio((apart[0] * apart[1]).sum(-1), lengths[0] * lengths[1]), -1, 1), 0.0)


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
