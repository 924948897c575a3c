"""Which rows of a source make a step of a run: epochs counted over all its phases, so that each phase sees other
orders."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from whet.engine.batches import batch_rows
from whet.models.dropout import mix


class Draws:
    """The rows of each step that come from one source, whose rows have these `lengths`; an epoch's batches are kept."""

    def __init__(self, seed: int, lengths: np.ndarray) -> None:
        self.seed, self.lengths = seed, lengths
        self.kept: tuple[tuple[int, int, str], list[np.ndarray]] = ((-1, 0, ""), [])

    def per_epoch(self, size: int) -> int:
        """Steps of `size` rows in which all rows have been drawn."""
        return -(-len(self.lengths) // size)

    def rows(self, earlier: Iterable[tuple[int, int]], step: int, size: int, batching: str) -> np.ndarray:
        """The rows of step `step` of a phase, counted from 0, of `size` rows; `earlier` are the steps of the phases
        before it and how many rows each of them took."""
        begun = sum(-(-steps // self.per_epoch(rows)) for steps, rows in earlier if rows)
        epoch, number = divmod(step, self.per_epoch(size))
        key = begun + epoch, size, batching
        if self.kept[0] != key:
            self.kept = key, batch_rows(self.seed, begun + epoch, self.lengths, size, batching)
        return self.kept[1][number]


def seed_of(seed: int, number: int) -> int:
    """The seed of source `number`: the run's own for the task's rows, another for each replay."""
    return mix(seed, number) >> 33 if number else seed
