"""Two models on the same test rows, where a row may have any number of labels: the difference, and whether it could be
chance. The tests are those of `whet.evaluate.paired`; rows change hands whole, with all their labels.

N rows, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whet.errors import DataError
from whet.evaluate.counts import Margins
from whet.evaluate.label_sets import SUMS, alike, ends, losses, margins, resampled
from whet.evaluate.paired import (
    EXCHANGE,
    MCNEMAR,
    SHARES_OF_ROWS,
    Comparison,
    by_accuracy,
    by_losses,
    portions,
    share_beyond,
)


@dataclass(frozen=True)
class Predicted:
    """What a model says of the rows: the labels it gives (true or false) and their probabilities, N x L each."""

    given: np.ndarray
    probabilities: np.ndarray


def compare_sets(metric: str, ours: Predicted, theirs: Predicted, truth: np.ndarray, *, seed: int = 0) -> Comparison:
    """Ours against theirs on the same rows. `metric` is micro_f1, macro_f1, exact_match or log_loss. A row counts as
    right if all its labels are. Raises `DataError` without rows, or with unequal numbers of them."""
    if not len(ours.given) == len(theirs.given) == len(truth) or not len(truth):
        raise DataError(
            "two models are compared on the same rows, at least one: "
            f"here are {len(ours.given)} and {len(theirs.given)} predictions for {len(truth)} rows"
        )
    has = truth.astype(bool)
    right, theirs_right = ((one.given.astype(bool) == has).all(1) for one in (ours, theirs))
    only_ours, only_theirs = int((right & ~theirs_right).sum()), int((theirs_right & ~right).sum())
    chance = np.random.default_rng(seed)
    if metric == "exact_match":
        found = by_accuracy(only_ours, only_theirs, len(truth))
    elif metric == "log_loss":
        found = by_losses(losses(truth, ours.probabilities) - losses(truth, theirs.probabilities), chance)
    else:
        score = SUMS[metric]
        difference = float(score(margins(truth, ours.given)) - score(margins(truth, theirs.given)))
        low, high = ends(resampled(truth, ours.given, theirs.given, seed=seed)[metric])
        drawn = exchanged(metric, truth, ours.given, theirs.given, chance)
        found = (difference, low, high, share_beyond(difference, drawn))
    test = MCNEMAR if metric in SHARES_OF_ROWS else EXCHANGE
    return Comparison(metric, test, *found, only_ours, only_theirs, len(truth))


def exchanged(
    metric: str, truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, chance: np.random.Generator
) -> np.ndarray:
    """Differences of a score after rows exchanged their predictions at random, each with probability one half."""
    first, second = margins(truth, ours), margins(truth, theirs)
    (has, one, other), rows = alike(truth, ours, theirs)
    changes = other.astype(float) - one
    drawn = []
    for some in portions(len(rows)):
        moved = chance.binomial(rows, 0.5, (some, len(rows))).astype(float)
        right, predicted = moved @ (changes * has), moved @ changes
        mine = SUMS[metric](Margins(first.right + right, first.truth, first.predicted + predicted))
        drawn.append(mine - SUMS[metric](Margins(second.right - right, second.truth, second.predicted - predicted)))
    return np.concatenate(drawn)
