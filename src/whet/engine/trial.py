"""Passes that are made to learn what they cost, and leave the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from whet.data.store import Part, Ragged, Targets, TokenStore
from whet.engine.gradient import Gradient
from whet.models.cut import in_eval_mode
from whet.models.quantize import quantized
from whet.plan.anatomy import Anatomy
from whet.plan.course import weights_of
from whet.plan.price import Batch


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Within, anything but the weights may change; after it, modes, what may move, and torch's chance are as before,
    and no parameter has a gradient."""
    free = {p: p.requires_grad for p in model.parameters() if not quantized(p)}
    devices = {parameter.device for parameter in free if parameter.device.type == "cuda"}
    with in_eval_mode(model), torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            for parameter, before in free.items():
                parameter.requires_grad_(before)
                parameter.grad = None


def let_move(model: nn.Module, anatomy: Anatomy, *, weights: bool) -> dict[str, nn.Parameter]:
    """Let everything move that can, or everything but the blocks' pretrained `weights`; returns what moves, by name."""
    parameters = {name: p for name, p in model.named_parameters() if not quantized(p)}
    still = {name for group in anatomy.blocks for name in weights_of(group, anatomy)}
    names = {parameter.name for parameter in anatomy.parameters} - (set() if weights else still)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names)
    return {name: parameter for name, parameter in parameters.items() if name in names}


def made_rows(store: TokenStore, batch: Batch) -> TokenStore:
    """Rows of one length, the batch's width or the most that the model takes, from the tokens of `store`."""
    length = min(batch.width, store.max_length)
    ids = np.resize(store.ids, batch.rows * length)
    segments = None if store.segments is None else np.resize(store.segments, batch.rows * length)
    starts = np.arange(batch.rows + 1, dtype=np.int64) * length
    return replace(store, ids=ids, starts=starts, truncated=0, tokens_lost=0, segments=segments)


def made_part(part: Part, batch: Batch) -> Part:
    """Such rows with targets. Raises `TypeError` where `part` holds no tokens."""
    if not isinstance(part.store, TokenStore):
        raise TypeError("rows can be made from tokens only")
    store, targets = made_rows(part.store, batch), part.targets
    if isinstance(targets, Ragged):
        made: Targets = Ragged(np.resize(targets.values, (len(store.ids), *targets.values.shape[1:])), store.starts)
    else:
        made = np.resize(targets, (batch.rows, *targets.shape[1:]))
    return Part(store, made, tuple(range(batch.rows)))


def with_part(gradient: Gradient, part: Part) -> Gradient:
    """The gradient on other rows."""
    return replace(gradient, own=replace(gradient.own, part=part))


@contextmanager
def entered(model: nn.Module, anatomy: Anatomy, tell: Callable[[str], None]) -> Iterator[None]:
    """Within, `tell` hears the name of each group as a pass comes to it, but for the one that it begins with."""
    handles = [
        model.get_submodule(group.entry).register_forward_pre_hook(lambda *_, name=group.name: tell(name))
        for group in anatomy.groups
        if group.entry
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_checkpointing(model: nn.Module) -> Iterator[None]:
    """Within, modules of transformers keep their activations, whatever they were told."""
    told = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True]
    try:
        for module in told:
            module.gradient_checkpointing = False  # type: ignore[assignment]
        yield
    finally:
        for module in told:
            module.gradient_checkpointing = True  # type: ignore[assignment]
