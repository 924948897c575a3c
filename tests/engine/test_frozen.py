"""Frozen weights held in half precision within a phase: the same bits, and the parameters as they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from whet.engine.forward import Forward
from whet.engine.frozen import cast_once
from whet.engine.job import Job
from whet.engine.precision import processes

JobOf = Callable[..., Job]


def forward_of(job: Job, precision: str = "bf16") -> Forward:
    for name, parameter in job.built.model.named_parameters():
        parameter.requires_grad_("layer.1" in name or "head" in name)
    job.built.model.eval()
    return Forward(job.built.model, processes(), precision, 2048)


def weights_in_half(job: Job) -> set[str]:
    return {name for name, value in job.built.model.named_parameters() if value.dtype is torch.bfloat16}


def test_outputs_and_gradients_are_the_same_bits(job_of: JobOf) -> None:
    job, rows = job_of(), np.arange(4)
    store = job.train.store
    forward = forward_of(job)
    made: list[list[torch.Tensor]] = []
    for cast in (False, True):
        job.built.model.zero_grad()
        if cast:
            with cast_once(forward, job.anatomy, store):
                outputs = forward(store, rows)
                outputs.square().sum().backward()
        else:
            outputs = forward(store, rows)
            outputs.square().sum().backward()
        grads = [p.grad.clone() for p in job.built.model.parameters() if p.grad is not None]
        made.append([outputs.detach(), *grads])
    assert len(made[0]) == len(made[1]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_only_frozen_products_are_cast_and_only_within(job_of: JobOf) -> None:
    job = job_of()
    forward, before = forward_of(job), dict(job.built.model.named_parameters())
    with cast_once(forward, job.anatomy, job.train.store):
        cast = weights_in_half(job)
    assert cast
    frozen = {name for name in cast if "layer.1" not in name and name.endswith(".weight") and "LayerNorm" not in name}
    assert cast == frozen
    after = dict(job.built.model.named_parameters())
    assert all(after[name] is value for name, value in before.items())


def test_nothing_is_cast_in_fp32(job_of: JobOf) -> None:
    job = job_of()
    with cast_once(forward_of(job, "fp32"), job.anatomy, job.train.store):
        assert not weights_in_half(job)


class InFull(nn.Module):
    """A block's product that is computed in fp32 whatever the others do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = inner.weight, inner.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return nn.functional.linear(x.float(), self.weight, self.bias)


def test_a_module_that_multiplies_in_fp32_keeps_all_weights(job_of: JobOf) -> None:
    job = job_of()
    name = next(n for n, m in job.built.model.named_modules() if "layer.0" in n and isinstance(m, nn.Linear))
    parent, _, own = name.rpartition(".")
    setattr(job.built.model.get_submodule(parent), own, InFull(job.built.model.get_submodule(name)))
    with cast_once(forward_of(job), job.anatomy, job.train.store):
        assert not weights_in_half(job)


def test_an_error_within_puts_the_weights_back(job_of: JobOf) -> None:
    job = job_of()
    within = cast_once(forward_of(job), job.anatomy, job.train.store)
    within.__enter__()
    assert weights_in_half(job)
    assert not within.__exit__(KeyError, KeyError(), None)
    assert not weights_in_half(job)
