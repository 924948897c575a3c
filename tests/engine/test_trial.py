"""Passes that are made to learn what a run costs: they find what training finds, and leave no trace."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from whet.engine.calibration import calibrated, seconds_per_token
from whet.engine.footprint import footprint
from whet.engine.forward import Forward, set_modes
from whet.engine.gradient import Gradient, Source
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.precision import processes
from whet.engine.timing import expected_budget
from whet.engine.timings import Kept, Shape, Timings, line_through, shapes_of
from whet.engine.trial import made_part
from whet.engine.workload import work_of
from whet.models.heads import outputs_of
from whet.plan.price import Batch, State, Work
from whet.plan.values import AdamW

JobOf = Callable[..., Job]


def gradient_of(job: Job) -> Gradient:
    forward = Forward(job.built.model, processes(), job.precision, 2**40)
    return Gradient(Source(0, forward, job.task, job.train), job.built.key, job.settings.seed)


def work(job: Job, **states: State) -> Work:
    stores = {"train": job.train.store, "valid": job.valid.store, "test": job.valid.store}
    on = job.settings, job.built.model, states, job.settings.tokens_at_once
    return work_of(job.plan, stores, job.beside, *on, half=False)


def timed(job: Job, known: Timings | None = None) -> Timings:
    gradient = gradient_of(job)
    per_token = seconds_per_token(gradient)
    return calibrated(gradient, job.anatomy, work(job), (AdamW(),), known or Timings(), per_token, None)


@contextmanager
def watched(job: Job) -> Iterator[list[tuple[int, int]]]:
    """The shapes of all batches that the model gets while it trains, in their order."""
    shapes: list[tuple[int, int]] = []

    def note(module: Any, _: Any, inputs: dict[str, Tensor]) -> None:
        if module.training:
            shapes.append(tuple(inputs["input_ids"].shape))  # type: ignore[arg-type]

    handle = job.built.model.register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    handle.remove()


@pytest.mark.parametrize("options", [{}, {"token_budget": 100}, {"batching": "random"}], ids=str)
def test_the_batches_of_an_epoch_are_known_before_it_runs(options: dict[str, Any], job_of: JobOf) -> None:
    job = job_of(epochs=1, **options)
    expected = {(batch.rows, batch.width): batch.times for batch in work(job).trained}
    with watched(job) as shapes:
        Loop(job).run()
    assert Counter(shapes) == expected


def test_of_a_long_epoch_a_part_of_the_steps_stands_for_all(job_of: JobOf, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(batch_size=4)
    whole = work(job)
    monkeypatch.setattr("whet.engine.workload.MOST_STEPS", 7)
    part = work(job)
    assert part.epochs[0].steps == whole.epochs[0].steps > 20
    rows = [sum(batch.rows * batch.times for batch in found.trained) for found in (whole, part)]
    assert rows[1] == pytest.approx(rows[0], rel=0.1)


@pytest.mark.parametrize("moves", ["all", "biases"])
def test_the_footprint_is_what_training_keeps(moves: str, job_of: JobOf) -> None:
    job = job_of()
    gradient, still = gradient_of(job), moves == "biases"
    found = footprint(gradient, job.anatomy)
    lines = found.passing if still else found.moving
    batch = Batch(5, 40)
    weights = {p.name for group in job.anatomy.blocks for p in group.parameters if p.kind == "weight"}
    for name, parameter in job.built.model.named_parameters():
        parameter.requires_grad_(not (still and name in weights))
    part, rows = made_part(job.train, batch), np.arange(batch.rows)
    set_modes(job.built.model, gradient.own.forward.inputs(part.store, rows), "")
    job.built.key.turn(0, 0, rows, torch.device("cpu"))
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in job.built.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = outputs_of(job.built.model, gradient.own.forward.inputs(part.store, rows))
    assert len(outputs) == batch.rows
    assert sum(line.of(batch) for line in lines.values()) == pytest.approx(sum(kept.values()), rel=0.05)
    assert set(lines) == {group.name for group in job.anatomy.groups}


def test_a_footprint_keeps_no_tensor(job_of: JobOf) -> None:
    """In two bytes, where copies of all weights are among what a pass keeps."""

    def alive() -> int:
        gc.collect()
        found = [one for one in gc.get_objects() if type(one) is torch.Tensor]
        return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in found}.values())

    job = job_of(precision="bf16")
    gradient = gradient_of(job)
    before = alive()
    footprint(gradient, job.anatomy)
    assert alive() <= before + 2**16


def test_a_gradient_that_only_passes_keeps_less_in_every_block(job_of: JobOf) -> None:
    job = job_of()
    found = footprint(gradient_of(job), job.anatomy)
    batch = Batch(8, 32)
    for block in job.anatomy.blocks:
        assert 0 < found.passing[block.name].of(batch) < found.moving[block.name].of(batch)


@pytest.mark.parametrize("what", ["footprint", "calibration"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_is_left_behind(what: str, precision: str, job_of: JobOf) -> None:
    """Weights, modes, what may move, and torch's chance."""
    job = job_of(precision=precision)
    model = job.built.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    model.get_submodule("head").train()
    modes = [module.training for module in model.modules()]
    chance = torch.random.get_rng_state()
    if what == "footprint":
        footprint(gradient_of(job), job.anatomy)
    else:
        timed(job)
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert [module.training for module in model.modules()] == modes
    assert [name for name, _ in model.named_parameters()] == names
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_is_the_same_bits_after_a_calibration(job_of: JobOf) -> None:
    ends = []
    for calibrates in (False, True):
        job = job_of(steps=4)
        if calibrates:
            timed(job)
        Loop(job).run()
        ends.append({name: value.clone() for name, value in job.built.model.state_dict().items()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_calibration_finds_all_that_is_needed_and_nothing_twice(job_of: JobOf, tmp_path: Path) -> None:
    job = job_of()
    assert Timings().lacks(work(job), ["adamw"])
    first = timed(job)
    assert not first.lacks(work(job), ["adamw"])
    assert first.lacks(work(job), ["sgd"])
    found = first.rates(work(job))
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.shares.keys() == {group.name for group in job.anatomy.groups}
    largest = max(work(job).trained, key=lambda batch: batch.tokens)
    assert found.moving.of(largest) > 0
    assert found.still.of(largest) > 0
    assert found.number["adamw"] > 0
    assert found.step > 0
    assert found.vectors > 0
    Kept(tmp_path, "here").write(first)
    kept = Kept(tmp_path, "here").read()
    assert kept == first
    assert timed(job, kept) == first, "something that is known was timed again"


def test_what_is_torn_or_of_another_machine_is_timed_again(tmp_path: Path) -> None:
    made = Timings(most=64, shares={"head": 1.0})
    Kept(tmp_path, "here").write(made)
    assert Kept(tmp_path, "elsewhere").read() == Timings()
    next(tmp_path.iterdir()).write_text('{"most": 1')
    assert Kept(tmp_path, "here").read() == Timings()
    Kept(None, "here").write(made)
    assert Kept(None, "here").read() == Timings()


@given(
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1e-2), st.floats(0, 1e-4)),
    shapes=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=4, max_size=8, unique=True),
)
def test_a_line_is_found_again_from_its_points(parts: tuple[float, ...], shapes: list[tuple[int, int]]) -> None:
    batches = [Batch(rows, 8 * width) for rows, width in shapes]
    values = [1e-3 + parts[0] + b.tokens * (parts[1] + parts[2] * b.width) for b in batches]
    line = line_through(list(zip(batches, values, strict=True)))
    assert min(line.fixed, line.token, line.square) >= 0
    assert [line.of(batch) for batch in batches] == pytest.approx(values, rel=1e-3)


@given(
    st.lists(
        st.builds(Batch, st.integers(1, 64), st.integers(1, 64).map(lambda n: 8 * n), st.floats(1, 99)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([64, 1024, 2**20]),
)
def test_the_shapes_that_are_timed_span_those_that_come(batches: list[Batch], most: int) -> None:
    shapes = shapes_of(batches, most)
    assert 1 <= len(shapes) <= 5
    widest = max(batch.width for batch in batches)
    assert any(Shape(1, shape.width).near(Shape(1, widest)) for shape in shapes)
    assert all(shape.rows <= max(2, most // shape.width) for shape in shapes)


def test_the_budget_that_a_run_will_use_is_known_once_it_was_timed(job_of: JobOf, tmp_path: Path) -> None:
    words = "the parcel has not come and nobody answers the telephone " * 12
    path = tmp_path / "long.csv"
    path.write_text("text,label\n" + "".join(f"{words} {n},{'ab'[n % 2]}\n" for n in range(60)))
    job = job_of(data=path, steps=1, batch_size=32, cache=str(tmp_path / "cache"))
    loop = Loop(job)
    ask = loop.forward, job.train.store.lengths, 32, job.cache, job.identity
    assert expected_budget(*ask) == (2048, (1024, 2048))
    found = loop.run().position.tokens_at_once
    assert expected_budget(*ask) == (found, ())
    assert expected_budget(*ask[:3], None, job.identity) == (2048, ())
