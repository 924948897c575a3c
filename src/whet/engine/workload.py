"""What a run has to do, replayed from the lengths of its rows: the batches of every step and every pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from whet.config import Settings
from whet.data.store import TokenStore, width_of
from whet.engine.batches import batch_rows, by_width, split_batch
from whet.engine.timing import GRADIENTS, middling
from whet.models.vocabulary import numbers_in_use
from whet.plan.price import Batch, State, Work

MOST_STEPS = 5000
"""Of a longer epoch, so many steps stand for all."""


def work_of(
    stores: Mapping[str, TokenStore],
    settings: Settings,
    model: nn.Module,
    states: Mapping[str, State],
    token_budget: int,
    half: bool,
    to_time: Sequence[int] = (),
) -> Work:
    """The work of a run on the rows of `stores` (train, valid, test), with at most `token_budget` padded tokens at
    once. `states` are those of the groups at which the model can be cut; `to_time` the budgets that the run will time
    before it settles on one; `half`: products are in two bytes."""
    train, valid, test = (stores[part] for part in ("train", "valid", "test"))
    lengths, size = train.lengths, settings.batch_size
    steps = batch_rows(settings.seed, 0, lengths, size, "random" if settings.batching == "random" else "grouped")
    sample = steps[:: max(1, len(steps) // MOST_STEPS)]
    split = [split_batch(rows, lengths, token_budget) for rows in sample]
    tried = [split_batch(middling(lengths, size)[0], lengths, budget) for budget in to_time]
    return Work(
        per_epoch=len(steps),
        batches=counted([part for parts in split for part in parts], lengths, len(steps) / len(sample)),
        vectors=sum(map(len, split)) / len(split),
        budgets=counted([part for parts in tried for part in parts], lengths, GRADIENTS),
        once=(*passed(train.lengths, token_budget), *passed(valid.lengths, token_budget)),
        valid=passed(valid.lengths, token_budget),
        test=passed(test.lengths, token_budget),
        rows=len(train) + len(valid),
        tokens=int(lengths.sum() + valid.lengths.sum()),
        narrowed=numbers_in_use(model, np.union1d(train.tokens, valid.tokens)),
        states=states,
        half=half,
        checkpointing=settings.gradient_checkpointing,
        validations_per_epoch=settings.validations_per_epoch,
        checkpoint_seconds=settings.checkpoint_seconds,
    )


def passed(lengths: np.ndarray, token_budget: int) -> tuple[Batch, ...]:
    """The batches of a pass over all rows."""
    return counted(by_width(lengths, token_budget), lengths)


def counted(parts: Sequence[np.ndarray], lengths: np.ndarray, times: float = 1.0) -> tuple[Batch, ...]:
    """Batches of rows by their shape, each counted `times`."""
    shapes = Counter((len(rows), width_of(int(lengths[rows].max()))) for rows in parts)
    return tuple(Batch(rows, width, times * count) for (rows, width), count in sorted(shapes.items()))
