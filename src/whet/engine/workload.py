"""What a run has to do, replayed from the lengths of its rows: the batches of every step and every pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from whet.config import Settings
from whet.data.store import TokenStore, width_of
from whet.engine.batches import batch_rows, by_width, split_batch
from whet.engine.draws import seed_of
from whet.engine.job import Beside
from whet.engine.timing import GRADIENTS, middling
from whet.models.quantize import bytes_of, quantized
from whet.models.vocabulary import numbers_in_use
from whet.plan.edits import Merge
from whet.plan.price import Batch, Epoch, State, Work
from whet.plan.values import Phase, Plan

MOST_STEPS = 5000
"""Of a longer epoch, so many steps stand for all."""
MERGED_ROWS = 64
"""On so many validation rows at most a merged model is compared with what it was merged from: before and after."""


def work_of(
    plan: Plan,
    stores: Mapping[str, TokenStore],
    beside: Sequence[Beside],
    settings: Settings,
    model: nn.Module,
    states: Mapping[str, State],
    token_budget: int,
    half: bool,
    to_time: Sequence[int] = (),
) -> Work:
    """The work of a plan on the rows of `stores` (train, valid, test) and those that it replays, with at most
    `token_budget` padded tokens at once. `states` are those of the groups at which the model can be cut; `to_time` the
    budgets that the run will time before it settles on one; `half`: products are in two bytes."""
    train, valid, test = (stores[part] for part in ("train", "valid", "test"))
    lengths, once = train.lengths, [train, valid, *(one.part.store for one in beside)]
    tried = [split_batch(middling(lengths, settings.batch_size)[0], lengths, budget) for budget in to_time]
    compared = 2 * passed(valid.lengths[:MERGED_ROWS], token_budget) if merges(plan) else ()
    fitted = passed(valid.lengths, token_budget) if settings.calibrate else ()
    return Work(
        epochs=epochs_of(plan, train, beside, settings, token_budget),
        budgets=counted([part for parts in tried for part in parts], lengths, GRADIENTS),
        train=passed(lengths, token_budget),
        once=tuple(batch for store in once for batch in passed(store.lengths, token_budget)),
        valid=passed(valid.lengths, token_budget),
        test=passed(test.lengths, token_budget),
        exact=(*compared, *fitted, *passed(test.lengths, token_budget)),
        train_rows=len(train),
        rows=sum(len(store) for store in once),
        tokens=sum(int(store.lengths.sum()) for store in once),
        narrowed=numbers_in_use(model, np.unique(np.concatenate([store.tokens for store in once]))),
        rounded={name: bytes_of(p) for name, p in model.named_parameters() if quantized(p)},
        states=states,
        half=half,
        checkpointing=settings.gradient_checkpointing,
        validations_per_epoch=settings.validations_per_epoch,
        checkpoint_seconds=settings.checkpoint_seconds,
    )


def merges(plan: Plan) -> bool:
    return any(isinstance(edit, Merge) for edit in plan.finish)


def epochs_of(
    plan: Plan, train: TokenStore, beside: Sequence[Beside], settings: Settings, token_budget: int
) -> tuple[Epoch, ...]:
    """An epoch of each phase; phases that draw alike share one."""
    made: dict[tuple[int, ...], Epoch] = {}
    sources = (train.lengths, *(one.part.store.lengths for one in beside))
    found = []
    for phase in plan.phases:
        sizes = sizes_of(phase, beside, settings.batch_size)
        if sizes not in made:
            made[sizes] = epoch_of(sources, sizes, settings, token_budget)
        found.append(made[sizes])
    return tuple(found)


def sizes_of(phase: Phase, beside: Sequence[Beside], batch_size: int) -> tuple[int, ...]:
    """Rows of a step from the task's own, and from each pool of replayed rows, 0 where the phase has none of it."""
    own, *others = phase.rows_per_step(batch_size)
    of = {one.pool: rows for one, rows in zip(phase.replay, others, strict=True)}
    return (own, *(of.get(one.pool, 0) for one in beside))


def epoch_of(sources: Sequence[np.ndarray], sizes: Sequence[int], settings: Settings, token_budget: int) -> Epoch:
    """The batches of an epoch whose steps take so many rows from each source, of these lengths."""
    batching = "random" if settings.batching == "random" else "grouped"
    steps, batches, vectors = -(-len(sources[0]) // sizes[0]), list[Batch](), 0.0
    for number, (lengths, size) in enumerate(zip(sources, sizes, strict=True)):
        if size:
            drawn = batch_rows(seed_of(settings.seed, number), 0, lengths, size, batching)
            sample = drawn[:: max(1, len(drawn) // MOST_STEPS)]
            split = [split_batch(rows, lengths, token_budget) for rows in sample]
            batches += counted([part for parts in split for part in parts], lengths, steps / len(sample))
            vectors += sum(map(len, split)) / len(split)
    return Epoch(steps=steps, batches=tuple(batches), vectors=vectors)


def passed(lengths: np.ndarray, token_budget: int) -> tuple[Batch, ...]:
    """The batches of a pass over all rows."""
    return counted(by_width(lengths, token_budget), lengths)


def counted(parts: Sequence[np.ndarray], lengths: np.ndarray, times: float = 1.0) -> tuple[Batch, ...]:
    """Batches of rows by their shape, each counted `times`."""
    shapes = Counter((len(rows), width_of(int(lengths[rows].max()))) for rows in parts)
    return tuple(Batch(rows, width, times * count) for (rows, width), count in sorted(shapes.items()))
