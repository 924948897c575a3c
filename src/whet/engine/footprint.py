"""Bytes that a training pass keeps for the way back, counted group by group on a few short rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from whet.data.store import STEP, width_of
from whet.engine.forward import set_modes
from whet.engine.gradient import Gradient
from whet.engine.trial import as_it_was, entered, let_move, made_part, without_checkpointing
from whet.plan.anatomy import Anatomy
from whet.plan.price import Batch, Footprint, Line

WIDE = 64


def footprint(gradient: Gradient, anatomy: Anatomy) -> Footprint:
    """The footprint of the model that `gradient` works on, without gradient checkpointing. Leaves it as it was."""
    model = gradient.own.forward.model
    with as_it_was(model), without_checkpointing(model):
        let_move(model, anatomy, weights=True)
        moving = lines(gradient, anatomy)
        let_move(model, anatomy, weights=False)
        return Footprint(moving=moving, passing=lines(gradient, anatomy))


def lines(gradient: Gradient, anatomy: Anatomy) -> dict[str, Line]:
    """What each group keeps, found from three batches: one and two narrow rows, and two wide ones."""
    forward, store = gradient.own.forward, gradient.own.part.store
    set_modes(forward.model, forward.inputs(store, np.arange(1)), "")
    wide = min(WIDE, width_of(int(store.lengths.max())))
    narrow = max(STEP, wide // 4 // STEP * STEP)
    one, two, wider = (
        kept(gradient, anatomy, Batch(rows, width)) for rows, width in ((1, narrow), (2, narrow), (2, wide))
    )
    return {
        group.name: line(narrow, wide, one[group.name], two[group.name], wider[group.name]) for group in anatomy.groups
    }


def line(narrow: int, wide: int, one: float, two: float, wider: float) -> Line:
    """The line through what one and two narrow rows, and two wide ones, keep."""
    fixed = max(0.0, 2 * one - two)
    each, each_wide = (two - fixed) / (2 * narrow), (wider - fixed) / (2 * wide)
    square = max(0.0, each_wide - each) / (wide - narrow) if wide > narrow else 0.0
    return Line(fixed=fixed, token=max(0.0, each - square * narrow), square=square)


def kept(gradient: Gradient, anatomy: Anatomy, batch: Batch) -> dict[str, float]:
    """Bytes that autograd keeps of one pass, by the group in which it does. Parameters are not counted."""
    forward, part, rows = gradient.own.forward, made_part(gradient.own.part, batch), np.arange(batch.rows)
    gradient.key.turn(gradient.seed, 0, rows, forward.device)
    seen = {parameter.untyped_storage().data_ptr() for parameter in forward.model.parameters()}
    found = dict.fromkeys((group.name for group in anatomy.groups), 0.0)
    current = anatomy.groups[0].name

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            found[current] += storage.nbytes()
        return tensor

    def enter(name: str) -> None:
        nonlocal current
        current = name

    with entered(forward.model, anatomy, enter), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = gradient.own.task.loss(forward(part.store, rows), torch.from_numpy(part.targets).to(forward.device))
    del loss
    return found
