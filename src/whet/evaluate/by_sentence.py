"""Intervals and comparisons of scores that are functions of counts summed over sentences.

Words of a sentence hang together, and sentences do not, so sentences are what is drawn again (Efron and Tibshirani
1993, An Introduction to the Bootstrap, chapter 13), and what two models exchange (approximate randomisation, Yeh 2000,
https://aclanthology.org/C00-2137).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from whet.errors import DataError
from whet.evaluate.intervals import Interval
from whet.evaluate.paired import DRAWS, Comparison

AT_ONCE = 4_000_000
"""Random numbers held in memory at a time."""
METHOD = "bootstrap over sentences"

Score = Callable[[np.ndarray], np.ndarray]
"""From sums over sentences (... x the shape of one sentence's counts) to scores (..., or several of them)."""


@dataclass(frozen=True)
class Counted:
    """A score, and the counts that it is a function of: a row for each sentence."""

    counts: np.ndarray
    score: Score

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self.score(self.counts.sum(0)))


def intervals(counted: Mapping[str, Counted], *, seed: int = 0) -> dict[str, np.ndarray]:
    """The lower and upper limit (2 x the shape of the score) of the 95 % percentile interval of each score, from
    `DRAWS` draws of as many sentences as there are. Raises `DataError` without sentences."""
    drawn = _drawn(counted, np.random.default_rng(seed))
    return {name: np.quantile(values, (0.025, 0.975), axis=0) for name, values in drawn.items()}


def interval(counted: Counted, *, seed: int = 0, warning: str | None = None) -> Interval:
    """The interval of one score that is a single number."""
    low, high = intervals({"": counted}, seed=seed)[""]
    return Interval(float(low), float(high), METHOD, warning)


def compared(metric: str, ours: Counted, theirs: Counted, *, seed: int = 0) -> Comparison:
    """Ours against theirs on the same sentences: the interval of the difference over sentences drawn again, the p-value
    of sentences exchanged at random."""
    rng, score = np.random.default_rng(seed), ours.score
    both = Counted(
        np.stack([ours.counts, theirs.counts], 1),
        lambda sums: score(np.take(sums, 0, axis=-ours.counts.ndim)) - score(np.take(sums, 1, axis=-ours.counts.ndim)),
    )
    difference = float(ours.value - theirs.value)
    low, high = np.quantile(_drawn({"": both}, rng)[""], (0.025, 0.975))
    drawn = _exchanged(score, ours.counts, theirs.counts, rng)
    # The difference itself counts among the draws.
    p_value = float((1 + (np.abs(drawn) >= abs(difference) - 1e-12).sum()) / (1 + len(drawn)))
    test, size = f"exchange of sentences, {DRAWS} draws", len(ours.counts)
    return Comparison(metric, test, difference, float(low), float(high), p_value, None, None, size)


def _drawn(counted: Mapping[str, Counted], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Each score of sentences drawn with replacement, `DRAWS` times; the same draws for all."""
    size = len(next(iter(counted.values())).counts)
    if not size:
        raise DataError("intervals are computed from test sentences, and there are none")
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in counted}
    for draws in _portions(size):
        chosen = rng.integers(0, size, (draws, size)) + size * np.arange(draws)[:, None]
        times = np.bincount(chosen.ravel(), minlength=draws * size).reshape(draws, size).astype(float)
        for name, one in counted.items():
            sums = times @ one.counts.reshape(size, -1).astype(float)
            drawn[name].append(one.score(sums.reshape(draws, *one.counts.shape[1:])))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def _exchanged(score: Score, ours: np.ndarray, theirs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Differences after sentences exchanged their predictions at random, each with probability one half."""
    size = len(ours)
    apart = (theirs - ours).reshape(size, -1).astype(float)
    moves = apart[apart.any(1)]
    first, second = ours.sum(0), theirs.sum(0)
    drawn = []
    for draws in _portions(max(len(moves), 1)):
        swapped = rng.integers(0, 2, (draws, len(moves))).astype(float)
        moved = (swapped @ moves).reshape(draws, *ours.shape[1:])
        drawn.append(score(first + moved) - score(second - moved))
    return np.concatenate(drawn)


def _portions(width: int) -> Iterator[int]:
    """The draws in portions whose random numbers, `width` each, fit in memory."""
    portion = max(AT_ONCE // max(width, 1), 1)
    for start in range(0, DRAWS, portion):
        yield min(portion, DRAWS - start)
