"""Bytes that a training pass keeps for the way back, counted group by group on a few short rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from whet.data.store import STEP, as_tensor, width_of
from whet.engine.forward import set_modes
from whet.engine.frozen import cast_once
from whet.engine.gradient import Gradient
from whet.engine.timings import line_through
from whet.engine.trial import as_it_was, entered, let_move, made_part, without_checkpointing
from whet.models.quantize import storages
from whet.plan.anatomy import Anatomy
from whet.plan.price import Batch, Footprint, Line

WIDE = 64


def footprint(gradient: Gradient, anatomy: Anatomy) -> Footprint:
    """The footprint of the model that `gradient` works on, without gradient checkpointing. Leaves it as it was."""
    model = gradient.own.forward.model
    with as_it_was(model), without_checkpointing(model):
        inputs = gradient.own.forward.inputs(gradient.own.part.store, np.arange(1))
        let_move(model, anatomy, weights=True)
        set_modes(model, inputs, "")
        moving = lines(gradient, anatomy)
        let_move(model, anatomy, weights=False)
        set_modes(model, inputs, "")
        with cast_once(gradient.own.forward, anatomy, gradient.own.part.store):
            return Footprint(moving=moving, passing=lines(gradient, anatomy))


def lines(gradient: Gradient, anatomy: Anatomy) -> dict[str, Line]:
    """What each group keeps, found from one and two narrow rows, and two wider and two wide ones."""
    wide = min(WIDE, width_of(int(gradient.own.part.store.lengths.max())))
    narrow, middle = (max(STEP, wide // part // STEP * STEP) for part in (4, 2))
    tried = dict.fromkeys((Batch(1, narrow), Batch(2, narrow), Batch(2, middle), Batch(2, wide)))
    found = {batch: kept(gradient, anatomy, batch) for batch in tried}
    return {
        group.name: line_through([(batch, sizes[group.name]) for batch, sizes in found.items()])
        for group in anatomy.groups
    }


def kept(gradient: Gradient, anatomy: Anatomy, batch: Batch) -> dict[str, float]:
    """Bytes that autograd keeps of one pass, by the group in which it does. Parameters are not counted."""
    forward, part, rows = gradient.own.forward, made_part(gradient.own.part, batch), np.arange(batch.rows)
    gradient.key.turn(gradient.seed, 0, rows, forward.device)
    seen = {storage.data_ptr() for parameter in forward.model.parameters() for storage in storages(parameter)}
    found = dict.fromkeys((group.name for group in anatomy.groups), 0.0)
    current = anatomy.groups[0].name

    held: list[Tensor] = []  # so that no address comes twice

    def keep(tensor: Tensor) -> None:
        """Hands nothing on: no pass comes back, and a graph that held its own results would stay for good."""
        held.append(tensor.detach())
        for storage in storages(tensor):
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                found[current] += storage.nbytes()

    def enter(name: str) -> None:
        nonlocal current
        current = name

    with (
        entered(forward.model, anatomy, enter),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing),
    ):
        loss = gradient.own.task.loss(forward(part.store, rows), as_tensor(part.targets).to(forward.device))
    del loss
    return found
