"""Which rows make a step, and how a step is divided: pure functions of seed, epoch and lengths."""

from __future__ import annotations

import numpy as np

from whet.data.store import width_of

WINDOW = 50
"""Batches whose rows are sorted together by length when batching is `grouped`."""


def batch_rows(seed: int, epoch: int, lengths: np.ndarray, batch_size: int, batching: str) -> list[np.ndarray]:
    """The rows of each step of an epoch (counted from 0), as index arrays; the last may be short.

    `random`: a seeded permutation, cut into batches. `grouped`: the same permutation, each window of 50 batches
    sorted by length (rows of equal length keep the permutation's order), and the batches of the epoch shuffled.
    The generator is numpy's PCG64 on the seed sequence (seed, epoch), so a reference can replay it.
    """
    chance = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = chance.permutation(len(lengths))
    if batching == "random":
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    batches = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[at : at + batch_size] for at in range(0, len(window), batch_size)]
    return [batches[number] for number in chance.permutation(len(batches))]


def split_batch(rows: np.ndarray, lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """A batch as micro-batches: sorted by length, each of at most `token_budget` padded tokens (or one row)."""
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    parts, start = [], 0
    for end in range(1, len(ordered) + 1):
        if end < len(ordered) and (end + 1 - start) * width_of(int(lengths[ordered[end]])) <= token_budget:
            continue
        parts.append(ordered[start:end])
        start = end
    return parts


def by_width(lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """All rows in batches of exactly one padded width each, so that a row's result does not depend on others."""
    widths = -(-lengths // 8) * 8
    parts = []
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        size = max(1, token_budget // int(width))
        parts += [rows[start : start + size] for start in range(0, len(rows), size)]
    return parts
