"""Intervals and tests that were tried and not taken; `coverage.py` measures them beside those that were.

Counts are tests x C x C. Every method returns its limits, one array of low and one of high ends.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from simulated import Ends
from whet.evaluate.counts import f1_per_label, macro_f1, macro_f1_influence, margins, ratio, standard_error
from whet.evaluate.intervals import NORMAL, f1_limits, macro_f1_limits

RESAMPLES = 1000


def formulas_of_macro_f1(counts: np.ndarray) -> dict[str, Ends]:
    score, error = macro_f1(margins(counts)), _error(counts)
    some = counts + 1 / counts.shape[-1] ** 2
    score_of_some, error_of_some = macro_f1(margins(some)), _error(some)
    return {
        "taken": tuple(macro_f1_limits(counts)),
        "delta method": (score - NORMAL * error, score + NORMAL * error),
        "delta method of the logit": _through_logit(score, error, -NORMAL, NORMAL),
        "delta method of the logit, one row more": _through_logit(score_of_some, error_of_some, -NORMAL, NORMAL),
        "MOVER as published": plain_mover(counts),
    }


def plain_mover(counts: np.ndarray) -> Ends:
    """Zou and Donner 2008: distances from each class's F1 to its Wilson limits, squared and added, side by side."""
    rows = margins(counts)
    either = rows.truth + rows.predicted - rows.right
    f1, (low, high), labels = f1_per_label(rows), f1_limits(rows.right, either), (either > 0).sum(-1)
    shared = (counts + np.swapaxes(counts, -1, -2)) * (1 - np.eye(counts.shape[-1]))
    pull = np.sqrt(ratio(rows.right, (either - rows.right) * either))

    def together(distance: np.ndarray) -> np.ndarray:
        weight = pull * distance
        return np.sqrt((distance**2).sum(-1) + (weight[..., None, :] @ shared @ weight[..., :, None])[..., 0, 0])

    known = either > 0
    return (
        (f1.sum(-1) - together(known * (f1 - low))) / labels,
        (f1.sum(-1) + together(known * (high - f1))) / labels,
    )


def bootstrap_of_macro_f1(counts: np.ndarray, seed: list[int]) -> dict[str, Ends]:
    """Rows drawn again, from each test: percentiles, BCa (Efron 1987), bootstrap-t as it is and of the logit."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {}
    for one in counts:
        rows = int(one.sum())
        again = rng.multinomial(rows, (one / rows).ravel(), size=RESAMPLES).reshape(RESAMPLES, *one.shape)
        score, error = float(macro_f1(margins(one))), float(_error(one))
        values, errors = macro_f1(margins(again)), _error(again)
        ends = {
            "percentile bootstrap": np.quantile(values, (0.025, 0.975)),
            "BCa bootstrap": np.quantile(values, _bca_levels(one, score, values)),
            "bootstrap-t": score + error * _t_quantiles((values - score)[errors > 0] / errors[errors > 0]),
            "bootstrap-t of the logit": _logit_t(score, error, values[errors > 0], errors[errors > 0]),
        }
        for method, pair in ends.items():
            found.setdefault(method, []).append(pair)
    return {method: tuple(np.array(pairs).T) for method, pairs in found.items()}


def bootstraps_of_mean(values: np.ndarray, rng: np.random.Generator) -> dict[str, Ends]:
    """Of the mean of tests x N values: Student's interval, percentiles, bootstrap-t."""
    rows = values.shape[1]
    means, errors = values.mean(1), values.std(1, ddof=1) / np.sqrt(rows)
    quantile = student.ppf(0.975, rows - 1)
    percentiles, studentised = [], []
    for own, mean, error in zip(values, means, errors, strict=True):
        again = own[rng.integers(0, rows, (RESAMPLES, rows))]
        centres = again.mean(1)
        percentiles.append(np.quantile(centres, (0.025, 0.975)))
        studentised.append(mean + error * _t_quantiles((centres - mean) / (again.std(1, ddof=1) / np.sqrt(rows))))
    return {
        "Student": (means - quantile * errors, means + quantile * errors),
        "percentile bootstrap": tuple(np.array(percentiles).T),
        "bootstrap-t": tuple(np.array(studentised).T),
    }


def bootstrap_p_values(
    truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, labels: int, rng: np.random.Generator
) -> dict[str, float]:
    """Of a difference in macro-F1: twice the share of resampled differences on the other side of zero."""
    cells, rows = np.unique(np.stack([truth, ours, theirs]), axis=1, return_counts=True)
    again = rng.multinomial(len(truth), rows / len(truth), size=RESAMPLES)
    differences = _macro_f1_of_cells(again, cells[0], cells[1], labels)
    differences -= _macro_f1_of_cells(again, cells[0], cells[2], labels)
    side = min((differences <= 0).mean(), (differences >= 0).mean())
    return {"percentile bootstrap": float(min(1, 2 * side))}


def _macro_f1_of_cells(rows: np.ndarray, truth: np.ndarray, predicted: np.ndarray, labels: int) -> np.ndarray:
    counts = np.zeros((len(rows), labels * labels))
    for cell, number in enumerate(truth * labels + predicted):
        counts[:, number] += rows[:, cell]
    return macro_f1(margins(counts.reshape(-1, labels, labels)))


def _error(counts: np.ndarray) -> np.ndarray:
    return standard_error(counts, macro_f1_influence(counts))


def _through_logit(score: np.ndarray, error: np.ndarray, low: float, high: float) -> Ends:
    """score moved by low and high standard errors on the logit's scale."""
    inside = np.clip(score, 1e-6, 1 - 1e-6)
    logit, wide = np.log(inside / (1 - inside)), error / (inside * (1 - inside))
    return 1 / (1 + np.exp(-(logit + low * wide))), 1 / (1 + np.exp(-(logit + high * wide)))


def _t_quantiles(studentised: np.ndarray) -> np.ndarray:
    """By how many standard errors the ends lie from the score; no distance where nothing varies."""
    return -np.quantile(studentised, (0.975, 0.025)) if len(studentised) else np.zeros(2)


def _logit_t(score: float, error: float, values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    inside, own = np.clip(values, 1e-6, 1 - 1e-6), float(np.clip(score, 1e-6, 1 - 1e-6))
    apart = np.log(inside / (1 - inside)) - np.log(own / (1 - own))
    low, high = _t_quantiles(apart / (errors / (inside * (1 - inside))))
    return np.array(_through_logit(np.array(own), np.array(error), low, high))


def _bca_levels(counts: np.ndarray, score: float, values: np.ndarray) -> np.ndarray:
    influence = macro_f1_influence(counts)
    second = (counts * influence**2).sum()
    acceleration = float(ratio((counts * influence**3).sum() / 6, second**1.5))
    below = ((values < score).mean() + (values <= score).mean()) / 2
    bias = norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    ends = bias + norm.ppf([0.025, 0.975])
    return norm.cdf(bias + ends / (1 - acceleration * ends))
