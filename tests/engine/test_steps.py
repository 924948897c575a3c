"""Losses that are read later, and products in fp16: what an accelerator needs, shown on a processor."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from whet.engine import checkpoint, loop
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.optimizers import divide_by
from whet.engine.precision import choose_precision
from whet.engine.steps import LossScale, Unread
from whet.errors import NonFiniteError, SettingsError, TrainingError

JobOf = Callable[..., Job]
CPU = torch.device("cpu")


class ReadLater(Unread):
    """Steps are read seven at a time, as on an accelerator."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.most = 7


def lines_of(job: Job) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "rows_per_second", "memory_mb")} for line in lines]


def weights_of(job: Job) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in job.built.model.named_parameters()}


def test_losses_read_later_change_neither_the_weights_nor_the_journal(
    job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"steps": 20, "learning_rate": 0.01, "validations_per_epoch": 3}
    at_once, later = job_of(**options), job_of(**options)
    Loop(at_once).run()
    monkeypatch.setattr(loop, "Unread", ReadLater)
    Loop(later).run()
    assert len([line for line in lines_of(later) if line["split"] == "train"]) == 20
    assert lines_of(later) == lines_of(at_once)
    for name, value in weights_of(at_once).items():
        assert torch.equal(value, weights_of(later)[name]), name


def test_a_loss_that_is_no_number_is_named_by_its_step_though_it_is_read_later(
    job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are as they were: every later step meets the same, so all of them are left out."""
    job = job_of(steps=5)
    with torch.no_grad():
        job.built.model.get_parameter("head.layers.1.bias")[0] = float("nan")
    before = weights_of(job)
    monkeypatch.setattr(loop, "Unread", ReadLater)
    with pytest.raises(NonFiniteError, match=r"^step 1: .* the weights were not touched"):
        Loop(job).run()
    for name, value in weights_of(job).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_fp16_is_for_gpus() -> None:
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    with pytest.raises(SettingsError, match="precision = fp16 is for a GPU"):
        choose_precision("fp16", CPU)


def losses_of(job: Job) -> list[float]:
    return [line["loss"] for line in lines_of(job) if line["split"] == "train"]


def test_an_fp16_run_has_the_losses_of_fp32_and_goes_on_bit_for_bit(job_of: JobOf) -> None:
    options: dict[str, Any] = {"steps": 12, "learning_rate": 0.01, "seed": 5}
    whole, other = dataclasses.replace(job_of(**options), precision="fp16"), job_of(**options)
    Loop(whole).run()
    Loop(other).run()
    assert losses_of(whole) == pytest.approx(losses_of(other), rel=0.02)
    assert losses_of(whole) != losses_of(other)
    assert checkpoint.facts(checkpoint.listed(whole.folder / "checkpoints")[0])["loss_scale"] == [65536.0, 12]

    class Stop(Exception):
        pass

    def stop(line: dict[str, Any]) -> None:
        if line.get("step") == 8:
            raise Stop

    cut = dataclasses.replace(job_of(**options, checkpoint_seconds=1e-9), precision="fp16", watch=stop)
    with pytest.raises(Stop):
        Loop(cut).run()
    again = dataclasses.replace(job_of(**options, folder=cut.folder), precision="fp16")
    Loop(again).run()
    assert lines_of(again) == lines_of(whole)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(again)[name]), name


def test_a_step_whose_fp16_gradient_overflows_is_left_out_and_the_scale_is_halved(
    job_of: JobOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whet.engine.steps.START", 2.0**40)
    job = dataclasses.replace(job_of(steps=40, learning_rate=0.01), precision="fp16")
    found = Loop(job)
    found.run()
    assert found.scale is not None
    skipped = 40 - round(math.log2(found.scale.state()[0]))
    assert 0 < skipped < 40
    steps = {int(value) for key, value in found.optimizer.state().items() if key.endswith("|step")}
    assert steps == {40 - skipped}


def test_a_loss_scale_grows_after_two_thousand_steps_and_is_exhausted_below_one() -> None:
    scale = LossScale(CPU, (1024.0, 1999))
    scale.update(torch.tensor(False))
    assert scale.state() == (2048.0, 0)
    for _ in range(12):
        assert not scale.exhausted
        scale.update(torch.tensor(True))
    assert scale.exhausted


@pytest.mark.parametrize(
    ("norm", "longest", "scale", "factor"), [(0.5, 1.0, 1.0, None), (4.0, 1.0, 1.0, 4.0), (4.0, 2.0, 8.0, 16.0)]
)
def test_what_gradients_are_divided_by(norm: float, longest: float, scale: float, factor: float | None) -> None:
    found = divide_by(torch.tensor(norm), longest, scale)
    assert (None if found is None else float(found)) == factor


def test_a_run_leaves_nothing_behind_for_devices_that_are_not_there(job_of: JobOf) -> None:
    """`torch.manual_seed` keeps a note of every call for them, with a traceback, for good."""
    before = len(torch.cuda._queued_calls)
    Loop(job_of(steps=10)).run()
    assert len(torch.cuda._queued_calls) == before


def test_a_model_that_cannot_be_compiled_is_said_so(job_of: JobOf) -> None:
    from torch._inductor import config

    refused = pytest.raises(TrainingError, match=r"--compile does not work here: .*compiler.* Leave it out")
    with config.patch({"cpp.cxx": (None, "no-such-compiler")}), refused:
        Loop(job_of(steps=1, compile=True)).run()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_has_the_same_losses_up_to_rounding(job_of: JobOf) -> None:
    options: dict[str, Any] = {"steps": 6, "learning_rate": 0.01}
    plain, compiled = job_of(**options), job_of(**options, compile=True)
    Loop(plain).run()
    Loop(compiled).run()
    assert losses_of(compiled) == pytest.approx(losses_of(plain), rel=1e-4)
