"""Features of pairs of texts for simple methods: words of both, and how two frozen vectors compare.

N pairs of training rows, H features of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from whet.evaluate.baselines import Parts, words
from whet.evaluate.budget import Kind
from whet.evaluate.forgetting import cosines

Sides = tuple[Parts[Sequence[str]], Parts[Sequence[str]]]


def pair_words(sides: Sides, ngrams: int) -> Kind:
    """TF-IDF of words (and pairs of words, where `ngrams` is 2) over the texts of both sides: by how much the two
    differ in each, and what they share."""
    one, other = sides
    parts = ((one.train, other.train), (one.valid, other.valid), (one.test, other.test))
    train, valid, test = (list(zip(*both, strict=True)) for both in parts)

    def prepare(rows: np.ndarray) -> tuple[Any, Callable[[Any], Any]]:
        from scipy.sparse import hstack

        some = [train[row] for row in rows]
        texts = [pair[side] for side in (0, 1) for pair in some]
        _, transform = words(Parts(texts, [], []), ngrams).prepare(np.arange(len(texts)))

        def features(pairs: Sequence[tuple[str, str]]) -> Any:
            left, right = (transform([pair[side] for pair in pairs]) for side in (0, 1))
            return hstack([abs(left - right), left.multiply(right)]).tocsr()

        return features(some), features

    plain = words(Parts([f"{a} {b}" for a, b in train], [], []), ngrams)
    held = sum(len(a) + len(b) + 2 for part in (valid, test) for a, b in part)
    return replace(plain, valid=valid, test=test, prepare=prepare, held_work=held)


def cosine(one: Parts[np.ndarray], other: Parts[np.ndarray]) -> Parts[np.ndarray]:
    """The cosine of the two vectors of each pair, as vectors of one feature."""
    pairs = ((one.train, other.train), (one.valid, other.valid), (one.test, other.test))
    return Parts(*(cosines(a, b)[:, None] for a, b in pairs))


def together(one: Parts[np.ndarray], other: Parts[np.ndarray]) -> Parts[np.ndarray]:
    """How far the two vectors differ in each feature, and their product there: 2 H features, the same in either order
    (as in Conneau et al. 2017, https://arxiv.org/abs/1705.02364)."""
    pairs = ((one.train, other.train), (one.valid, other.valid), (one.test, other.test))
    return Parts(*(np.concatenate([np.abs(a - b), a * b], axis=1) for a, b in pairs))
