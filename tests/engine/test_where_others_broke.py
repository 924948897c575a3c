"""Cases that were run in other tools, and what a user of whet relies on in each. Most of them broke there.

A test's first line names the case: the tool in the version that was run, and the public thread where there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import whet
from whet.config import Settings, resolve
from whet.engine import checkpoint
from whet.engine.batches import batch_rows, split_batch
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.weights import bests_of
from whet.errors import Interrupted, RunError, SettingsError
from whet.plan.edits import NewHead
from whet.plan.schedules import Constant
from whet.plan.select import match
from whet.plan.values import Length, Phase, Plan, Rate
from whet.runs.execute import begin, go_on

JobOf = Callable[..., Job]
MACHINE = ("seconds", "rows_per_second", "memory_mb")


class Killed(Exception):
    """Stands for the end of a process."""


def stop_after(step: int, line: dict[str, Any]) -> None:
    """Ctrl-C while a step is at work: it is finished and saved, and the run stops."""
    if line.get("split") == "train" and line["step"] == step - 1:
        signal.raise_signal(signal.SIGINT)


def stopped(job_of: JobOf, step: int, folder: Path, **options: Any) -> dict[str, Any]:
    with pytest.raises(Interrupted):
        Loop(job_of(watch=lambda line: stop_after(step, line), folder=folder, **options)).run()
    facts = checkpoint.facts(newest(folder))
    assert facts["done"] == step
    return facts


def finished(job: Job) -> Path:
    Loop(job).run()
    return job.folder


def newest(folder: Path) -> Path:
    return checkpoint.listed(folder / "checkpoints")[0]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MACHINE} for line in lines]


def assert_equal(made: Path, expected: Path) -> None:
    """The same losses and scores, and after the last step the same weights and optimizer, bit for bit."""
    assert lines_of(made) == lines_of(expected)
    for part in ("moved", "optimizer"):
        assert same(checkpoint.tensors(newest(made), part), checkpoint.tensors(newest(expected), part)), part


GRADUAL: dict[str, Any] = {"strategy": "gradual_unfreezing(per=2)", "steps": 3, "learning_rate": 3e-3}
"""Four phases of three steps: the head moves, then blocks 3 and 2 with it, then all blocks, then all."""


@pytest.fixture(scope="module")
def gradual(job_of: JobOf) -> Path:
    """The folder of a run to which nothing happened."""
    return finished(job_of(**GRADUAL))


@pytest.mark.parametrize("stop", [4, 8, 11])
def test_resumed_in_a_later_phase_of_unfreezing_what_was_unfrozen_still_moves(
    stop: int, gradual: Path, job_of: JobOf, tmp_path: Path
) -> None:
    """Lightning 2.6.6, BackboneFinetuning (pytorch-lightning#21901): frozen again, no warning, another result."""
    assert stopped(job_of, stop, tmp_path, **GRADUAL)["phase"] == (stop - 1) // 3
    before = checkpoint.tensors(newest(tmp_path), "moved")
    unfrozen: list[set[str]] = []

    def watch(line: dict[str, Any]) -> None:
        if line["split"] == "train":
            unfrozen.append({name for name, value in job.built.model.named_parameters() if value.requires_grad})

    job = job_of(watch=watch, folder=tmp_path, **GRADUAL)
    assert_equal(finished(job), gradual)
    phases = [phase.train.on(job.anatomy) for phase in job.plan.phases]
    assert unfrozen == [phases[step // 3] for step in range(stop, 12)]
    after = checkpoint.tensors(newest(tmp_path), "moved")
    # The bias of an attention key has no effect on the output.
    assert not {name for name in before if torch.equal(after[name], before[name]) and "key.bias" not in name}


@pytest.mark.parametrize("ended", [1, 3])
def test_killed_between_two_phases_of_unfreezing_the_next_one_begins(
    ended: int, gradual: Path, job_of: JobOf, tmp_path: Path
) -> None:
    """Lightning 2.6.6, as above. Here one phase is saved as ended, and the pass that the next needs is not done."""

    def hook(*_: Any) -> None:
        for path in checkpoint.listed(tmp_path / "checkpoints")[:1]:
            facts = checkpoint.facts(path)
            if facts["phase"] == len(facts["lengths"]) == ended:
                raise Killed

    job = job_of(folder=tmp_path, **GRADUAL)
    job.built.model.register_forward_pre_hook(hook)
    with pytest.raises(Killed):
        Loop(job).run()
    assert_equal(finished(job_of(folder=tmp_path, **GRADUAL)), gradual)


def test_a_layer_that_equals_another_in_every_value_moves_all_the_same(job_of: JobOf) -> None:
    """Lightning 2.6.6, unfreeze_and_add_param_group: a LayerNorm equal in value to the head's was never trained."""
    inner, outer = (f"body.encoder.layer.3.{part}LayerNorm" for part in ("attention.output.", "output."))
    phases = tuple(
        Phase(
            name=f"{len(names)}",
            train=match("head.*", *(f"{name}.*" for name in names)),
            length=Length(amount=3, unit="steps"),
            rate=Rate(base=rate, schedule=Constant()),
        )
        for names, rate in (((inner,), 1e-30), ((inner, outer), 1e-2))  # the first rate is too small to show
    )
    alike: list[bool] = []

    def watch(line: dict[str, Any]) -> None:
        if line["split"] == "train" and line["step"] == 3:
            modules = [job.built.model.get_submodule(name) for name in (inner, outer)]
            alike.extend(torch.equal(modules[0].get_parameter(n), modules[1].get_parameter(n)) for n in starts)

    job = job_of(plan=Plan(edits=(NewHead(pooling="mean"),), phases=phases), watch=watch)
    starts = {"weight": 1.0, "bias": 0.25}
    for own, start in starts.items():
        for name in (inner, outer):
            torch.nn.init.constant_(job.built.model.get_parameter(f"{name}.{own}"), start)
    loop = Loop(job)
    loop.run()
    assert alike == [True, True], "the second phase did not find them equal"
    moved, state = checkpoint.tensors(newest(job.folder), "moved"), loop.optimizer.state()
    for own, start in starts.items():
        assert all(bool((moved[f"{name}.{own}"] != start).all()) for name in (inner, outer))
        assert not torch.equal(moved[f"{inner}.{own}"], moved[f"{outer}.{own}"])
        assert [int(state[f"{name}.{own}|step"]) for name in (inner, outer)] == [6, 3]


NEWEST, BEFORE = "000006-2", "000006-1"
"""The checkpoint that begins the third phase of `GRADUAL`, and that of the last step of the second."""


@pytest.fixture(scope="module")
def killed_once(job_of: JobOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def watch(line: dict[str, Any]) -> None:
        if line["step"] == 7:
            raise Killed

    job = job_of(watch=watch, folder=tmp_path_factory.mktemp("killed"), checkpoint_seconds=1e-9, **GRADUAL)
    with pytest.raises(Killed):
        Loop(job).run()
    return job.folder


def without(path: Path, *names: str) -> None:
    for name in names:
        (path / name).unlink()


def zeros(path: Path) -> None:
    """What a file system may leave after a power failure: the length is there, the content is not."""
    for file in path.iterdir():
        size = file.stat().st_size
        os.truncate(file, 0)
        os.truncate(file, size)


def mixed(path: Path, *names: str) -> None:
    for name in names:
        shutil.copy(path.parent / BEFORE / name, path / name)


TORN: dict[str, Callable[[Path], None]] = {
    "weights there, facts and manifest missing": lambda path: without(path, "facts.json", "manifest.json"),
    "weights and manifest there, facts missing": lambda path: without(path, "facts.json"),
    "zeros of the right length": zeros,
    "facts of another": lambda path: mixed(path, "facts.json"),
    "weights and manifest of another": lambda path: mixed(path, "moved.safetensors", "manifest.json"),
}


@pytest.mark.parametrize("form", TORN)
def test_a_torn_newest_checkpoint_falls_back_to_the_good_one_before_and_says_so(
    form: str, killed_once: Path, gradual: Path, job_of: JobOf, tmp_path: Path
) -> None:
    """transformers 5.23 (#35525): takes the folder without trainer_state.json, FileNotFoundError, older one untried."""
    folder = shutil.copytree(killed_once, tmp_path / "torn")
    assert [path.name for path in checkpoint.listed(folder / "checkpoints")] == [NEWEST, BEFORE]
    TORN[form](newest(folder))
    told: list[dict[str, Any]] = []
    assert_equal(finished(job_of(watch=told.append, folder=folder, **GRADUAL)), gradual)
    assert [line for line in told if "note" in line] == [{"note": f"checkpoint {NEWEST} is damaged; {BEFORE} is used"}]
    assert [line["step"] for line in told if line.get("split") == "train"] == list(range(7, 13))


SPLIT: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "token_budget": 80}
"""Two epochs of six steps; every batch goes through the model in several parts."""
STOPS = {"in mid-epoch": 3, "at the end of an epoch": 6, "at the start of one": 7, "before the last step": 11}


@pytest.fixture(scope="module", params=["random", "grouped"])
def uninterrupted(request: pytest.FixtureRequest, job_of: JobOf) -> tuple[dict[str, Any], Path]:
    """The options of a run, and its folder when nothing happened to it."""
    options = {**SPLIT, "batching": request.param}
    job = job_of(**options)
    lengths = job.train.store.lengths
    steps = [rows for epoch in (0, 1) for rows in batch_rows(0, epoch, lengths, 16, request.param)]
    assert len(steps) == 12
    assert min(len(split_batch(rows, lengths, 80)) for rows in steps) > 1
    return options, finished(job)


@pytest.mark.parametrize("where", STOPS)
def test_resumed_anywhere_in_an_epoch_of_split_batches_it_ends_with_the_same_bits(
    where: str, uninterrupted: tuple[dict[str, Any], Path], job_of: JobOf, tmp_path: Path
) -> None:
    """transformers 5.23: bit-equal with random batches, accumulation included; off by 9e-5 with group_by_length."""
    options, folder = uninterrupted
    stopped(job_of, STOPS[where], tmp_path, **options)
    assert_equal(finished(job_of(folder=tmp_path, **options)), folder)


def test_every_checkpoint_holds_the_trained_head_and_a_resumed_run_predicts_with_it(
    tiny_bert: Path, rows_csv: Path, tmp_path: Path
) -> None:
    """SetFit 1.2.0 (setfit#526): no head in a checkpoint, loads silently, predict raises NotFittedError."""
    options: dict[str, Any] = {"model": tiny_bert, "strategy": "lift(blocks=2)", "steps": 3, "learning_rate": 3e-3}
    options |= {"precision": "fp32", "threads": 1, "cache": "off", "checkpoint_seconds": 1e-9}
    out = tmp_path / "run"
    heads: dict[str, dict[str, Tensor]] = {}

    def look_for_heads() -> None:
        for path in checkpoint.listed(out / "checkpoints"):
            for holder in (path, *(path.parent / name for name in bests_of(path))):
                held = checkpoint.tensors(holder, "moved")
                heads[holder.name] = {name[5:]: value for name, value in held.items() if name.startswith("head.")}

    def watching(stop: int) -> Callable[[dict[str, Any]], None]:
        def watch(line: dict[str, Any]) -> None:
            look_for_heads()
            stop_after(stop, line)

        return watch

    with pytest.raises(Interrupted):
        begin(resolve("fine_tune", {**options, "out": out}), rows_csv, watching(5))
    with pytest.raises(RunError, match=r"is not finished; .* whet resume"):
        whet.load(out)
    with pytest.raises(Interrupted):
        go_on(out, watching(8))  # the head moves in no step of this process
    look_for_heads()
    resumed = whet.resume(out, quiet=True)
    whole = whet.fine_tune(rows_csv, out=tmp_path / "whole", quiet=True, **options)
    head = load_file(resumed.path / "model" / "head.safetensors")
    assert head["layers.1.bias"].abs().min() > 0, "a head that was never trained has biases of zero"
    assert heads.keys() >= {"000002-0", "best-000003", "000005-1", "best-000006", "000008-2"}
    moved = {name: held for name, held in heads.items() if not name.startswith("000000")}
    assert all(held.keys() == head.keys() for held in moved.values())
    # It moves in the first three steps; what follows moves blocks alone.
    assert all(same(held, head) for name, held in heads.items() if name.removeprefix("best-") >= "000003")
    assert same(head, load_file(whole.path / "model" / "head.safetensors"))
    texts = ["my card was swallowed by the machine", "where is my parcel?"]
    assert np.array_equal(resumed.probabilities(texts), whole.probabilities(texts))
    assert resumed.predict(texts) == whole.predict(texts)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_misspelt_option_of_a_file_a_flag_or_a_call_is_refused_with_the_right_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Axolotl's kind of pydantic config: gone without a word. transformers 5.23: a TypeError that names no other."""
    from whet.cli import main

    monkeypatch.chdir(tmp_path)
    middle = len(name) // 2
    forms = {name[:-1], name[:middle] + name[middle - 1 :]}  # a letter left out, a letter typed twice
    for wrong in forms - set(Settings.model_fields):
        says = f"1 option is wrong\n  {wrong}  unknown; did you mean {name}?"
        options: dict[str, Any] = {wrong: 1}
        with pytest.raises(SettingsError) as called:
            whet.train("rows.csv", **options)
        assert str(called.value) == says
        Path("options.yaml").write_text(f"{wrong}: 1\n")
        for words in (["--config", "options.yaml"], [f"--{wrong.replace('_', '-')}", "1"]):
            monkeypatch.setattr(sys, "argv", ["whet", "train", "rows.csv", *words])
            with pytest.raises(SystemExit) as ended:
                main()
            assert (ended.value.code, capsys.readouterr().err) == (2, f"whet: {says}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["options.yaml"], "something ran"
