"""Intervals and comparisons of scores that are functions of counts summed over sentences.

Words of a sentence hang together, and sentences do not, so sentences are what is drawn again (Efron and Tibshirani
1993, An Introduction to the Bootstrap, chapter 13), and what two models exchange (approximate randomisation, Yeh 2000,
https://aclanthology.org/C00-2137).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from whet.errors import DataError
from whet.evaluate.intervals import Interval
from whet.evaluate.paired import DRAWS, Comparison

AT_ONCE = 4_000_000
"""Random numbers held in memory at a time."""
FEW = 20
"""Below so many true entities, or wrong words, of which a score is made, an interval may be too narrow: a rule of
thumb, no measurement."""

Score = Callable[[np.ndarray], np.ndarray]
"""From sums over sentences (... x the shape of one sentence's counts) to scores (...)."""


def interval(counts: np.ndarray, score: Score, *, seed: int = 0, warning: str | None = None) -> Interval:
    """The percentile interval of a score, from `DRAWS` draws of as many sentences as there are. `counts` has a row for
    each sentence. Raises `DataError` without sentences."""
    low, high = np.quantile(_drawn(counts, score, np.random.default_rng(seed)), (0.025, 0.975))
    return Interval(float(low), float(high), "bootstrap over sentences", warning)


def compared(
    metric: str, score: Score, ours: np.ndarray, theirs: np.ndarray, *, lower: bool = False, seed: int = 0
) -> Comparison:
    """Ours against theirs: counts of the same sentences. The interval is that of the difference over sentences drawn
    again, the p-value that of sentences exchanged at random; `only_ours_right` and `only_theirs_right` are sentences on
    which one alone scores better (`lower`: a lower score is better)."""
    rng = np.random.default_rng(seed)
    both = np.stack([ours, theirs], 1)
    difference = float(score(ours.sum(0)) - score(theirs.sum(0)))
    drawn = _drawn(both, lambda sums: score(sums[..., 0, :]) - score(sums[..., 1, :]), rng)
    low, high = np.quantile(drawn, (0.025, 0.975))
    apart = _alone(score, ours, theirs) * (-1 if lower else 1)
    test = f"exchange of sentences, {DRAWS} draws"
    p_value = _p_value(difference, _exchanged(score, ours, theirs, rng))
    better, worse = int((apart > 0).sum()), int((apart < 0).sum())
    return Comparison(metric, test, difference, float(low), float(high), p_value, better, worse, len(ours))


def _alone(score: Score, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.asarray(score(ours) - score(theirs))


def _drawn(counts: np.ndarray, score: Score, rng: np.random.Generator) -> np.ndarray:
    """The score of sentences drawn with replacement, `DRAWS` times."""
    size = len(counts)
    if not size:
        raise DataError("intervals are computed from test sentences, and there are none")
    flat = counts.reshape(size, -1).astype(float)
    drawn = []
    for draws in _portions(size):
        times = rng.multinomial(size, np.full(size, 1 / size), size=draws)
        drawn.append(score((times @ flat).reshape(draws, *counts.shape[1:])))
    return np.concatenate(drawn)


def _exchanged(score: Score, ours: np.ndarray, theirs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Differences after sentences exchanged their predictions at random, each with probability one half."""
    size = len(ours)
    apart = (theirs - ours).reshape(size, -1).astype(float)
    moves = apart[apart.any(1)]
    first, second = ours.sum(0), theirs.sum(0)
    drawn = []
    for draws in _portions(max(len(moves), 1)):
        moved = (rng.integers(0, 2, (draws, len(moves))) @ moves).reshape(draws, *ours.shape[1:])
        drawn.append(score(first + moved) - score(second - moved))
    return np.concatenate(drawn)


def _p_value(difference: float, drawn: np.ndarray) -> float:
    """The share of draws at least as far from zero, the difference itself counted among them."""
    return float((1 + (np.abs(drawn) >= abs(difference) - 1e-12).sum()) / (1 + len(drawn)))


def _portions(width: int) -> Iterator[int]:
    """The draws in portions whose random numbers, `width` each, fit in memory."""
    portion = max(AT_ONCE // max(width, 1), 1)
    for start in range(0, DRAWS, portion):
        yield min(portion, DRAWS - start)
