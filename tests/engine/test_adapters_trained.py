"""The engine with adapters: the cut below them, products in half precision, rounded bodies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whet.engine.forward import Forward
from whet.engine.frozen import cast_once
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.precision import processes
from whet.models.dropout import KeyedDropout
from whet.models.quantize import quantized
from whet.models.temperature import last_layer

JobOf = Callable[..., Job]
FEW: dict[str, Any] = {"steps": 3, "batch_size": 12}


def losses(job: Job) -> list[float]:
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def parameters(job: Job) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in job.built.model.named_parameters()}


def test_what_lies_below_the_lowest_adapter_is_computed_once(job_of: JobOf) -> None:
    job = job_of(strategy="lora(blocks=1)", **FEW)
    assert all(".layer.3." in name for name in job.anatomy.added)
    (fact,) = Loop(job).run().captures
    assert fact["before"] == "block 3"
    everywhere = job_of(strategy="lora", **FEW)
    assert Loop(everywhere).run().captures[0]["before"] == "block 0"


@pytest.mark.parametrize("strategy", ["lora(blocks=2)", "lora", "lora(blocks=2, dora=True)", "lora(dropout=0.1)"])
def test_cut_and_uncut_are_equal_up_to_rounding(strategy: str, job_of: JobOf) -> None:
    made = []
    for cut in (True, False):
        job = job_of(strategy=strategy, cut=cut, batching="random", **FEW)
        assert bool(Loop(job).run().captures) == cut
        made.append(losses(job))
    assert made[0] == pytest.approx(made[1], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_that_have_not_moved_change_no_bit_of_what_comes_before_the_head(
    precision: str, job_of: JobOf
) -> None:
    """So states that another run has kept can be used."""
    made = []
    for strategy in ("probe", "lora"):
        loop = Loop(job_of(strategy=strategy, precision=precision))
        states = loop.below.before_head(loop.job.train.store)
        assert states is not None
        made.append(states.flat)
    assert torch.equal(*made)


def test_micro_batches_change_nothing_but_rounding(job_of: JobOf) -> None:
    """Dropout before an adapter is keyed like any other."""
    made = []
    for budget in (4096, 64):
        job = job_of(strategy="lora(dropout=0.3)", token_budget=budget, cut=False, **FEW)
        dropped = [m for name, m in job.built.model.named_modules() if "lora_dropout." in name]
        assert dropped
        assert all(isinstance(module, KeyedDropout) and module.p == 0.3 for module in dropped)
        Loop(job).run()
        made.append(losses(job))
    assert made[0] == pytest.approx(made[1], rel=1e-4)


def test_dropout_of_the_run_leaves_that_of_adapters_alone(job_of: JobOf) -> None:
    job = job_of(strategy="lora(dropout=0.3)", dropout=0.0)
    shares = {m.p for name, m in job.built.model.named_modules() if isinstance(m, nn.Dropout | KeyedDropout) and m.p}
    assert shares == {0.3}


def test_gradient_checkpointing_changes_nothing_but_rounding(job_of: JobOf) -> None:
    made = []
    for switch in (False, True):
        job = job_of(strategy="lora(dropout=0.1)", gradient_checkpointing=switch, **FEW)
        Loop(job).run()
        made.append(losses(job))
    assert made[0] == pytest.approx(made[1], rel=1e-4)


def weights_in_half(job: Job) -> set[str]:
    return {name for name, value in job.built.model.named_parameters() if value.dtype is torch.bfloat16}


def test_frozen_weights_beside_adapters_are_cast_once(job_of: JobOf) -> None:
    job = job_of(strategy="lora")
    for name, parameter in job.built.model.named_parameters():
        parameter.requires_grad_(name in job.plan.phases[0].train.on(job.anatomy))
    forward, rows = Forward(job.built.model, processes(), "bf16", 2048), np.arange(4)
    before = forward(job.train.store, rows)
    with cast_once(forward, job.anatomy, job.train.store):
        cast = weights_in_half(job)
        assert torch.equal(forward(job.train.store, rows), before)
    assert len([name for name in cast if name.endswith("base_layer.weight")]) == 4 * 6
    assert not any("lora_" in name for name in cast)
    assert not weights_in_half(job)


def test_half_precision_trains_adapters(job_of: JobOf) -> None:
    job = job_of(strategy="lora", precision="bf16", **FEW)
    before = parameters(job)
    Loop(job).run()
    moved = {name for name, value in parameters(job).items() if not torch.equal(value, before[name])}
    assert moved == {*job.anatomy.added, *(parameter.name for parameter in job.anatomy.head.parameters)}


@pytest.fixture(params=["int8", "nf4"])
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip({"int8": "torchao", "nf4": "bitsandbytes"}[request.param])
    return str(request.param)


def rounded(job: Job) -> dict[str, Tensor]:
    """The bytes of all rounded weights."""
    found = {}
    for name, value in job.built.model.named_parameters():
        if quantized(value):
            found[name] = getattr(value, "qdata", value.data).clone()
    return found


@pytest.mark.parametrize("strategy", ["lora", "lora(dora=True)", "prompt(tokens=8)", "prefix(tokens=8)"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_train_on_a_rounded_body(strategy: str, precision: str, kind: str, job_of: JobOf) -> None:
    job = job_of(strategy=strategy, quantize_body=kind, precision=precision, learning_rate=0.02, **FEW)
    before, plain = rounded(job), job_of(strategy=strategy)
    assert len(before) == 4 * 6
    assert [group.size for group in job.anatomy.groups] == [group.size for group in plain.anatomy.groups]
    outcome = Loop(job).run()
    after = rounded(job)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(value.dtype in (torch.int8, torch.uint8) for value in after.values())
    assert outcome.position.done == 3
    assert np.isfinite(losses(job)).all()


def test_a_rounded_body_is_cut_like_any_other(kind: str, job_of: JobOf) -> None:
    made = []
    for cut in (True, False):
        job = job_of(strategy="lora(blocks=2)", quantize_body=kind, cut=cut, batching="random", **FEW)
        assert bool(Loop(job).run().captures) == cut
        made.append(losses(job))
    assert made[0] == pytest.approx(made[1], rel=1e-4)


def test_a_rounded_body_is_close_to_the_whole_one(kind: str, job_of: JobOf) -> None:
    rows = np.arange(8)
    outputs = []
    for options in ({}, {"quantize_body": kind}):
        job = job_of(strategy="lora", **options)
        forward = Forward(job.built.model.eval(), processes(), "fp32", 2048)
        with torch.no_grad():
            outputs.append(forward(job.train.store, rows))
    off = float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())
    assert 0 < off < (0.05 if kind == "int8" else 0.5)


def test_the_last_layer_is_the_heads_whatever_the_rank(job_of: JobOf) -> None:
    for head in ("linear", "native"):
        job = job_of(strategy="lora(rank=3)", head=head)
        weight = last_layer(job.built.model, 3).weight
        (name,) = [name for name, parameter in job.built.model.named_parameters() if parameter is weight]
        assert name in {parameter.name for parameter in job.anatomy.head.parameters}
