"""What moves, what stands still, when a run stops and what it keeps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whet.engine import checkpoint
from whet.engine.forward import set_modes
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.errors import NonFiniteError, TrainingError
from whet.models.dropout import KeyedDropout
from whet.plan.anatomy import Group, Parameter
from whet.plan.edits import NewHead
from whet.plan.schedules import Constant
from whet.plan.select import Select
from whet.plan.values import SGD, Length, Patience, Phase, Plan, Rate

JobOf = Callable[..., Job]
STEPS = Length(amount=4, unit="steps")


def plan_of(*trains: str, length: Length = STEPS, rate: float = 1e-2, stop: Patience | None = None) -> Plan:
    phases = tuple(
        Phase(
            name=f"phase {number}",
            train=Select.parse(train),
            length=length,
            rate=Rate(base=rate, schedule=Constant()),
            optimizer=SGD(),
            stop=stop,
        )
        for number, train in enumerate(trains)
    )
    return Plan(edits=(NewHead(pooling="mean"),), phases=phases)


def everything_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, as they are now."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def lines_of(job: Job, split: str | None = None) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    return [line for line in lines if split in (None, line["split"])]


SELECTIONS = [
    ("head()",),
    ("top(1)",),
    ('match("*.attention.self.query.*", "head.*")',),
    ('head() + kinds("bias", "norm")',),
    ('groups("block 1")',),
    ('groups("embeddings")',),
    ('head()', 'groups("block 3")', 'groups("block 2")'),
    ('groups("block 0")', 'head()', 'groups("block 2") - kinds("bias")'),
    ('everything() - groups("embeddings")',),
]  # fmt: skip


@pytest.mark.parametrize("trains", SELECTIONS, ids=" then ".join)
def test_what_the_plan_names_moves_and_nothing_else(trains: tuple[str, ...], job_of: JobOf) -> None:
    job = job_of(plan=plan_of(*trains))
    before = everything_of(job.built.model)
    named = set().union(*(Select.parse(train).on(job.anatomy) for train in trains))
    Loop(job).run()
    after = everything_of(job.built.model)
    # Its result is the best validation, which may stand before a later phase: what moved is what the last step left.
    last = checkpoint.tensors(checkpoint.listed(job.folder / "checkpoints")[0], "moved")
    assert before.keys() == after.keys()
    for name, value in after.items():
        if name not in named:
            assert torch.equal(value, before[name]), f"{name} moved"
    assert set(last) == named
    used = np.union1d(job.train.store.tokens, job.valid.store.tokens)
    for name, value in last.items():
        # Of the token table only the rows in use train, and so only they are stored.
        start = before[name][used] if "word_embeddings" in name else before[name]
        # The bias of an attention key has no effect on the output.
        if not name.endswith("key.bias"):
            assert value.shape == start.shape
            assert not torch.equal(value, start), f"{name} did not move"


def test_rows_of_the_token_table_that_no_text_uses_stay(job_of: JobOf) -> None:
    job = job_of(steps=4, optimizer="adamw(weight_decay=0.5)")
    table = job.built.model.body.embeddings.word_embeddings.weight
    before = table.detach().clone()
    used = {int(token) for part in (job.train, job.valid) for token in part.store.ids}
    Loop(job).run()
    table = job.built.model.body.embeddings.word_embeddings.weight
    moved = {row for row in range(len(table)) if not torch.equal(table[row], before[row])}
    assert moved <= used
    assert moved >= {int(token) for token in job.train.store.ids}


def test_a_result_from_before_a_phase_has_the_later_groups_as_pretrained(job_of: JobOf) -> None:
    """The second phase ruins the model, so the result is the first one's: what only the second moved is put back."""
    plan = plan_of("head()", 'groups("block 2")', length=Length(amount=12, unit="steps"))
    ruin = plan.phases[1].model_copy(update={"rate": Rate(base=30.0, schedule=Constant())})
    job = job_of(plan=plan.model_copy(update={"phases": (plan.phases[0], ruin)}), metric="log_loss")
    before = everything_of(job.built.model)
    outcome = Loop(job).run()
    assert outcome.kept.phase == 0
    after = everything_of(job.built.model)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"head.layers.1.weight", "head.layers.1.bias"}
    stored = checkpoint.tensors(job.folder / "checkpoints" / outcome.kept.folder, "moved")
    assert all(torch.equal(after[name], value) for name, value in stored.items())


def modes_while_training(job: Job) -> list[dict[str, bool]]:
    """The mode of every module when each step is done."""
    seen: list[dict[str, bool]] = []

    def watch(line: dict[str, Any]) -> None:
        if line.get("split") == "train":
            seen.append({name: module.training for name, module in job.built.model.named_modules()})

    Loop(dataclasses.replace(job, watch=watch)).run()
    return seen


@pytest.mark.parametrize(
    ("train", "dropping"),
    [
        # Dropout below the lowest group that moves would make what is frozen a matter of chance.
        ("head()", {"head.layers.0"}),
        (
            "top(1)",
            {"head.layers.0", "body.encoder.layer.3.attention.output.dropout", "body.encoder.layer.3.output.dropout"},
        ),
        (
            'groups("block 2")',
            {"body.encoder.layer.2.attention.output.dropout", "body.encoder.layer.2.output.dropout"},
        ),
    ],
)
def test_what_is_frozen_runs_in_eval_mode(train: str, dropping: set[str], job_of: JobOf) -> None:
    job = job_of(plan=plan_of(train))
    seen = modes_while_training(job)
    assert len(seen) == 4
    moving = Select.parse(train).on(job.anatomy)
    own = {name for name, module in job.built.model.named_modules() if list(module.parameters(recurse=False))}
    keyed = {name for name, module in job.built.model.named_modules() if isinstance(module, KeyedDropout)}
    for modes in seen:
        assert {name for name in own if modes[name]} == {name.rpartition(".")[0] for name in moving}
        assert {name for name in keyed if modes[name]} == dropping


def test_batch_norm_uses_its_stored_statistics_while_its_scale_moves() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    set_modes(model, {"input": torch.randn(2, 3)}, "1")
    assert [module.training for module in model] == [False, False, True, True]
    before = everything_of(model)
    model(torch.randn(8, 3)).sum().backward()
    assert model[1].weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in everything_of(model).items())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("place", ["body.encoder.layer.1.output.dense.weight", "head.layers.1.bias"])
def test_a_weight_that_is_no_number_stops_the_run_and_names_the_rows(value: float, place: str, job_of: JobOf) -> None:
    job = job_of(steps=5)
    with torch.no_grad():
        job.built.model.get_parameter(place).view(-1)[3 if "weight" in place else 0] = value
    before = everything_of(job.built.model)
    with pytest.raises(NonFiniteError, match=r"^step 1: .* not finite; the weights were not touched") as caught:
        Loop(job).run()
    named = {
        int(part) for part in str(caught.value).partition("lines ")[2].partition(".")[0].split(", ") if part.isdigit()
    }
    assert len(named) == 8
    assert named <= set(job.train.lines)
    for name, now in everything_of(job.built.model).items():
        torch.testing.assert_close(now, before[name], rtol=0, atol=0, equal_nan=True)
    assert lines_of(job) == []


def test_a_loss_that_is_no_number_stops_the_run_though_its_gradient_is_one(job_of: JobOf) -> None:
    """Outputs further apart than fp32 reaches: the loss is infinite, the gradient of the softmax is not."""
    job = job_of(steps=5, verb="train", dropout=0.0)
    with torch.no_grad():
        job.built.model.get_parameter("head.layers.1.bias").copy_(torch.tensor([3e38, -3e38, 0.0]))
    with pytest.raises(NonFiniteError, match="not finite"):
        Loop(job).run()


def sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_rate_that_is_too_high_stops_the_run_and_leaves_finite_weights_on_the_disk(job_of: JobOf) -> None:
    seen: dict[str, str] = {}

    def watch(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == 1:
            seen.update(sums(job.folder / "checkpoints"))

    job = job_of(steps=50, learning_rate=1e30, optimizer="sgd(momentum=0.0)", schedule="constant", warmup=0.0)
    job = dataclasses.replace(job, watch=watch)
    with pytest.raises(NonFiniteError, match="lower --learning-rate"):
        Loop(job).run()
    assert seen
    assert sums(job.folder / "checkpoints") == seen
    for path in checkpoint.listed(job.folder / "checkpoints"):
        assert all(value.isfinite().all() for value in checkpoint.tensors(path, "moved").values())


def test_weights_that_the_last_step_ruined_are_no_result(job_of: JobOf) -> None:
    """Nothing comes after the only step that would meet them: the validation has to."""
    job = job_of(steps=1, learning_rate=1e30, optimizer="sgd(momentum=0.0)", schedule="constant", warmup=0.0)
    with pytest.raises(NonFiniteError):
        Loop(job).run()
    assert not list((job.folder / "checkpoints").glob("best-*"))


def test_a_parameter_that_should_move_and_gets_no_gradient_is_an_error(job_of: JobOf) -> None:
    job = job_of(steps=5)
    job.built.model.head.spare = nn.Parameter(torch.ones(3))
    *body, head = job.anatomy.groups
    with_spare = (*head.parameters, Parameter(name="head.spare", size=3, kind="weight"))
    groups = (*body, Group(name=head.name, kind="head", entry=head.entry, parameters=with_spare))
    before = everything_of(job.built.model)
    job = dataclasses.replace(job, anatomy=job.anatomy.model_copy(update={"groups": groups}))
    with pytest.raises(TrainingError, match=r"1 parameters .* no gradient, for example head\.spare"):
        Loop(job).run()
    assert all(torch.equal(value, before[name]) for name, value in everything_of(job.built.model).items())


def test_a_length_in_minutes_becomes_steps_that_are_stored(job_of: JobOf) -> None:
    """And measuring leaves no trace: a run of as many steps has the same bits."""
    timed = job_of(minutes=0.004, optimizer="adamw")
    outcome = Loop(timed).run()
    (steps,) = outcome.position.lengths
    assert outcome.position.done == steps >= 1
    assert len(lines_of(timed, "train")) == steps
    assert checkpoint.facts(checkpoint.listed(timed.folder / "checkpoints")[-1])["lengths"] == [steps]
    counted = job_of(steps=steps, optimizer="adamw")
    Loop(counted).run()
    assert [line["loss"] for line in lines_of(timed, "train")] == [line["loss"] for line in lines_of(counted, "train")]
    after = everything_of(counted.built.model)
    assert all(torch.equal(value, after[name]) for name, value in everything_of(timed.built.model).items())


def test_patience_ends_a_phase_and_the_next_starts_from_its_best(job_of: JobOf) -> None:
    """At so high a rate validations soon stop getting better."""
    length, patience = Length(amount=300, unit="steps"), Patience(validations=3)
    early = plan_of("everything()", rate=0.3, stop=patience, length=length).phases[0]
    late = plan_of("head()", rate=1e-3, length=Length(amount=2, unit="steps")).phases[0]
    plan = Plan(edits=(NewHead(pooling="mean"),), phases=(early, late.model_copy(update={"name": "late"})))
    start: dict[str, Tensor] = {}

    def watch(line: dict[str, Any]) -> None:
        if line.get("phase") == "late" and not start:
            newest = checkpoint.listed(job.folder / "checkpoints")[0]
            start.update(checkpoint.tensors(newest, "moved"))
            facts = checkpoint.facts(newest)
            assert facts["phase"] == 1
            bests = [one for one in facts["ranked"] if one["phase"] == 0]
            best.update(checkpoint.tensors(job.folder / "checkpoints" / f"best-{bests[0]['step']:06d}", "moved"))

    best: dict[str, Tensor] = {}
    job = dataclasses.replace(job_of(plan=plan, validations_per_epoch=3, metric="log_loss"), watch=watch)
    outcome = Loop(job).run()
    valid = [line for line in lines_of(job, "valid") if line["phase"] != "late"]
    lowest = min(range(len(valid)), key=lambda number: valid[number]["log_loss"])
    assert len(valid) == lowest + 1 + 3
    assert valid[-1]["step"] < 300
    assert outcome.position.ended[0].why == "no better validation in the last 3"
    assert best
    assert start.keys() == best.keys()
    assert all(torch.equal(start[name], value) for name, value in best.items())


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc", "log_loss"])
def test_the_weights_kept_are_those_of_the_best_validation(metric: str, job_of: JobOf) -> None:
    job = job_of(epochs=4, metric=metric, learning_rate=3e-3)
    outcome = Loop(job).run()
    valid = lines_of(job, "valid")
    sign = 1 if metric == "log_loss" else -1
    best = min(valid, key=lambda line: (sign * line[metric], line["log_loss"]))
    assert len(valid) == 4
    assert outcome.kept.step == best["step"]
    assert outcome.kept.score == best[metric]
    stored = checkpoint.tensors(job.folder / "checkpoints" / outcome.kept.folder, "moved")
    after = everything_of(job.built.model)
    assert all(torch.equal(after[name], value) for name, value in stored.items() if after[name].shape == value.shape)


def test_validations_fall_where_they_were_asked_for(job_of: JobOf) -> None:
    job = job_of(steps=13, validations_per_epoch=2, batch_size=16)
    Loop(job).run()
    assert -(-len(job.train.targets) // 16) == 6
    assert [line["step"] for line in lines_of(job, "valid")] == [3, 6, 9, 12, 13]


def test_each_step_drops_other_elements(job_of: JobOf) -> None:
    """All rows in every step, at a rate of nothing: only dropout tells one step from the next."""
    job = job_of(steps=5, batch_size=1000, learning_rate=1e-30)
    Loop(job).run()
    losses = sorted(line["loss"] for line in lines_of(job, "train"))
    assert all(high - low > 1e-5 for low, high in pairwise(losses))
    still = job_of(steps=5, batch_size=1000, learning_rate=1e-30, dropout=0.0)
    Loop(still).run()
    np.testing.assert_allclose([line["loss"] for line in lines_of(still, "train")], losses[0], rtol=0.05)
    assert np.ptp([line["loss"] for line in lines_of(still, "train")]) < 1e-6


def test_each_phase_goes_through_other_orders_of_the_rows(job_of: JobOf) -> None:
    """Epochs count over the whole run."""
    same = job_of(plan=plan_of("head()", "head()", rate=1e-30, length=Length(amount=1, unit="epochs")), dropout=0.0)
    Loop(same).run()
    losses = [line["loss"] for line in lines_of(same, "train")]
    assert len(losses) == 12
    assert losses[:6] != losses[6:]
