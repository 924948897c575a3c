"""How often `compare` calls two models different, equal or not, and how often its interval holds their difference."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

from simulated import DRAWS_OF_DRAWS, figures, population
from tried_intervals import bootstrap_p_values
from whet.evaluate.counts import macro_f1, margins, mcc
from whet.evaluate.paired import Comparison, compare, rows_to_tell

ACCURACY = 0.85
# Rows of a thousand that only ours has right, and only theirs.
DIFFERENCES = ((150, 50), (100, 50), (50, 20), (30, 10), (20, 0), (60, 40), (200, 100), (12, 4), (100, 20))


def alike(name: str, better: float, agreement: float) -> np.ndarray:
    """Two models with mistakes of one kind, ours right in `better` more of each class's rows."""
    return pairs(population(name, ACCURACY + better), population(name, ACCURACY), agreement)


def unlike(name: str) -> np.ndarray:
    """Two models of equal macro-F1. Theirs finds 0.08 more of every other class and less of the rest."""
    ours = population(name, ACCURACY)
    share = ours.sum(1)
    uneven = np.where(np.arange(len(share)) % 2, -0.08, 0.08)

    def theirs(shift: float) -> np.ndarray:
        recall = np.clip(ACCURACY + uneven + shift, 0.01, 0.99)
        wrong = ours * (1 - np.eye(len(share)))
        return np.diag(share * recall) + wrong / wrong.sum(1, keepdims=True) * (share * (1 - recall))[:, None]

    def apart(shift: float) -> float:
        return float(macro_f1(margins(theirs(shift))) - macro_f1(margins(ours)))

    return pairs(ours, theirs(brentq(apart, -0.3, 0.05)), 0.7)


def pairs(ours: np.ndarray, theirs: np.ndarray, agreement: float) -> np.ndarray:
    """Shares of rows (C x C x C) by truth, our prediction, theirs, from those of each model. Both predict the same in
    as many rows as their recall allows, times `agreement`; in the others they know nothing of each other."""
    rows = []
    for label, weight in enumerate(ours.sum(1)):
        mine, other = ours[label] / weight, theirs[label] / weight
        same = agreement * np.minimum(mine, other)
        rows.append(weight * (np.diag(same) + np.outer(mine - same, other - same) / (1 - same.sum())))
    return np.array(rows)


def one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count)[labels]


def paired(shares: np.ndarray, rows: int, also_tried: bool) -> dict:
    """Share of tests called different, and coverage of the difference, by metric."""
    labels = len(shares)
    ours, theirs = shares.sum(2), shares.sum(1)
    true = {
        "accuracy": float(np.trace(ours) - np.trace(theirs)),
        "macro_f1": float(macro_f1(margins(ours)) - macro_f1(margins(theirs))),
        "mcc": float(mcc(margins(ours)) - mcc(margins(theirs))),
    }
    found: dict[str, list] = {metric: [] for metric in true}
    others: dict[str, list] = {}
    rng = np.random.default_rng([labels, rows])
    for number in range(DRAWS_OF_DRAWS):
        cells = rng.choice(shares.size, rows, p=shares.ravel())
        truth, mine, other = np.unravel_index(cells, shares.shape)
        for metric in true:
            one = compare(metric, one_hot(mine, labels), one_hot(other, labels), truth, seed=number)
            found[metric].append((one.p_value, one.low, one.high))
        if also_tried:
            for method, p_value in bootstrap_p_values(truth, mine, other, labels, rng).items():
                others.setdefault(method, []).append(p_value)
    result = {}
    for metric, value in true.items():
        p_values, low, high = np.array(found[metric]).T
        result[metric] = {"called_different": float((p_values < 0.05).mean()), **figures((low, high), value)}
    tried_too = {f"macro_f1, {method}": float((np.array(found) < 0.05).mean()) for method, found in others.items()}
    return result | ({"tried": tried_too} if also_tried else {})


def paired_losses(agreement: float, rows: int) -> dict:
    """Equal models of two labels whose outputs share a part; the log-loss of each is the same by construction."""
    rng = np.random.default_rng([rows, int(100 * agreement)])
    found = []
    for number in range(DRAWS_OF_DRAWS):
        centre = np.where(rng.random(rows) < 0.85, 3.0, -1.5) + np.sqrt(agreement) * rng.normal(size=rows)
        ours, theirs = (centre + np.sqrt(1 - agreement) * rng.normal(size=rows) for _ in range(2))
        both = [np.stack([1 / (1 + np.exp(-own)), 1 / (1 + np.exp(own))], axis=1) for own in (ours, theirs)]
        one = compare("log_loss", *both, np.zeros(rows, dtype=int), seed=number)
        found.append((one.p_value, one.low, one.high))
    p_values, low, high = np.array(found).T
    return {"log_loss": {"called_different": float((p_values < 0.05).mean()), **figures((low, high), 0.0)}}


def power(only_ours: int, only_theirs: int) -> dict:
    """The exact chance that McNemar's test tells such a difference on the rows that are named for it."""
    difference = (only_ours - only_theirs) / 1000
    rows = rows_to_tell(Comparison("accuracy", "", difference, 0, 0, 1, only_ours, only_theirs, 1000))
    told, differing = 0.0, only_ours + only_theirs
    for count in range(1, rows + 1):
        chance = binom.pmf(count, rows, differing / 1000)
        if chance > 1e-9:
            ours = np.arange(count + 1)
            called = 2 * binom.cdf(np.minimum(ours, count - ours), count, 0.5) < 0.05
            told += chance * binom.pmf(ours, count, only_ours / differing)[called].sum()
    return {"rows": rows, "power": round(float(told), 4)}
