"""Stopped anywhere, damaged anyhow: a run goes on to the same bits, and never from a checkpoint that is not whole."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from whet.engine import checkpoint
from whet.engine.interrupt import interruptions
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.weights import bests_of
from whet.errors import Interrupted

JobOf = Callable[..., Job]
MACHINE = ("seconds", "rows_per_second", "memory_mb")
WATCH = Callable[[dict[str, Any]], None]


def sigint_at(*steps: int, number: signal.Signals = signal.SIGINT) -> WATCH:
    """A watcher that sends this process a signal when a step is recorded."""

    def watch(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] in steps:
            signal.raise_signal(number)

    return watch


def progress(job: Job) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MACHINE} for line in lines]


def weights(job: Job) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in job.built.model.named_parameters()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


Result = tuple[dict[str, Tensor], list[dict[str, Any]], Any]


def finished(job: Job) -> Result:
    outcome = Loop(job).run()
    return weights(job), progress(job), outcome.kept


OPTIONS: dict[str, Any] = {"epochs": 2, "validations_per_epoch": 3, "learning_rate": 1e-3}
"""Twelve steps, a validation every second one."""
ALWAYS = {"checkpoint_seconds": 1e-9}
"""A checkpoint after every step."""


@pytest.fixture(scope="module")
def whole(job_of: JobOf) -> Result:
    """What twelve steps come to when nothing happens."""
    return finished(job_of(**OPTIONS))


@pytest.fixture(scope="module")
def stopped_once(job_of: JobOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Interrupted):
        Loop(job_of(watch=sigint_at(7), folder=folder, **OPTIONS, **ALWAYS)).run()
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """The folder of a run that was stopped after step 8."""
    return shutil.copytree(stopped_once, tmp_path / "stopped")


def assert_equal(made: Result, expected: Result) -> None:
    assert made[1] == expected[1]
    assert made[2] == expected[2]
    assert same(made[0], expected[0])


def test_the_first_signal_lets_the_step_end_and_saves(stopped: Path, whole: Result, job_of: JobOf) -> None:
    newest = checkpoint.listed(stopped / "checkpoints")[0]
    assert checkpoint.whole(newest)
    assert newest.name == "000008-0"
    lines = (stopped / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"train"' in line] == list(range(1, 9))
    assert_equal(finished(job_of(folder=stopped, **OPTIONS)), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_handled_a_signal_before_does_so_again(number: signal.Signals, job_of: JobOf) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted):
        Loop(job_of(watch=sigint_at(2, number=number), **OPTIONS)).run()
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_at_once(whole: Result, job_of: JobOf, tmp_path: Path) -> None:
    def watch(line: dict[str, Any]) -> None:
        if line.get("step") == 5 and line["split"] == "train":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Loop(job_of(watch=watch, folder=tmp_path, **OPTIONS, **ALWAYS)).run()
    assert checkpoint.listed(tmp_path / "checkpoints")[0].name == "000004-0"
    assert_equal(finished(job_of(folder=tmp_path, **OPTIONS)), whole)


def test_in_another_thread_signals_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interruptions() as asked:
            seen.append((signal.getsignal(signal.SIGINT), asked.to_stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_stopped_again_and_again(whole: Result, job_of: JobOf, tmp_path: Path) -> None:
    for step in (1, 3, 6, 9):
        with pytest.raises(Interrupted):
            Loop(job_of(watch=sigint_at(step), folder=tmp_path, **OPTIONS)).run()
    assert_equal(finished(job_of(folder=tmp_path, **OPTIONS)), whole)


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def altered(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "weights torn": lambda path: truncated(path / "moved.safetensors"),
    "weights altered": lambda path: altered(path / "moved.safetensors"),
    "weights empty": lambda path: os.truncate(path / "moved.safetensors", 0),
    "optimizer missing": lambda path: (path / "optimizer.safetensors").unlink(),
    "facts altered": lambda path: (path / "facts.json").write_text(
        (path / "facts.json").read_text().replace('"done": 8', '"done": 7')
    ),
    "manifest torn": lambda path: truncated(path / "manifest.json"),
    "manifest missing": lambda path: (path / "manifest.json").unlink(),
    "manifest of fewer files": lambda path: (path / "manifest.json").write_text('{"files": {}, "sha256": "0"}'),
    "nothing in it": lambda path: [file.unlink() for file in path.iterdir()],
    "a best it refers to is torn": lambda path: truncated(newest_best(path.parent) / "moved.safetensors"),
    "a best it refers to is gone": lambda path: shutil.rmtree(newest_best(path.parent)),
}


def newest_best(checkpoints: Path) -> Path:
    return max(checkpoints.glob("best-*"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: str, stopped: Path, whole: Result, job_of: JobOf
) -> None:
    """Step 8 is validated; were the checkpoint of step 7 not whole by itself, there would be nothing to go back to."""
    newest, before = checkpoint.listed(stopped / "checkpoints")
    assert (newest.name, before.name) == ("000008-0", "000007-0")
    assert newest_best(stopped / "checkpoints").name in bests_of(newest)
    shared = newest_best(stopped / "checkpoints").name in bests_of(before)
    DAMAGES[damage](newest)
    notes: list[str] = []
    first: list[int] = []

    def watch(line: dict[str, Any]) -> None:
        notes.extend([line["note"]] if "note" in line else [])
        first.extend([line["step"]] if line.get("split") == "train" else [])

    assert_equal(finished(job_of(watch=watch, folder=stopped, **OPTIONS)), whole)
    if shared and "best" in damage:  # both refer to what is damaged: from the start again
        assert first[0] == 1
    else:
        assert notes == ["checkpoint 000008-0 is damaged; 000007-0 is used"]
        assert first[0] == 8


def test_without_any_whole_checkpoint_a_run_begins_again(stopped: Path, whole: Result, job_of: JobOf) -> None:
    for path in checkpoint.listed(stopped / "checkpoints"):
        truncated(path / "optimizer.safetensors")
    notes: list[str] = []
    job = job_of(watch=lambda line: notes.append(line.get("note")), folder=stopped, **OPTIONS)
    assert_equal(finished(job), whole)
    ends = [f"checkpoint 00000{step}-0 is damaged; none is left, so the run begins again" for step in (8, 7)]
    assert [note for note in notes if note] == ends


def test_a_damaged_older_checkpoint_is_removed_though_the_newest_is_whole(
    stopped: Path, whole: Result, job_of: JobOf
) -> None:
    _, before = checkpoint.listed(stopped / "checkpoints")
    (before / "facts.json").unlink()
    assert_equal(finished(job_of(folder=stopped, **OPTIONS)), whole)


def test_progress_that_lost_its_end_keeps_its_whole_lines(stopped: Path, job_of: JobOf) -> None:
    """A disk that was full, or a copy that was cut short: never bytes that are no line."""
    file = stopped / "progress.jsonl"
    first = file.read_bytes().splitlines(keepends=True)[0]
    os.truncate(file, len(first) + 10)
    notes: list[str] = []
    finished(job_of(watch=lambda line: notes.append(line.get("note")), folder=stopped, **OPTIONS))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [line["step"] for line in lines if line["split"] == "train"]
    assert steps[:2] == [1, 9]
    assert "progress.jsonl has lost its end; what is left of it is kept" in notes


def test_what_a_killed_process_left_half_written_is_no_checkpoint(stopped: Path, whole: Result, job_of: JobOf) -> None:
    """A temporary folder, files that do not belong there, and lines of progress behind the checkpoint."""
    folder = stopped / "checkpoints"
    shutil.copytree(folder / "000008-0", folder / ".000009-0.12345")
    (folder / ".000009-0.12345" / "manifest.json").unlink()
    with (stopped / "progress.jsonl").open("a") as handle:
        handle.write('{"step": 9, "phase": "all groups", "split": "train", "loss": 0.0}\n{"step": 1')
    assert_equal(finished(job_of(folder=stopped, **OPTIONS)), whole)
    assert not list(folder.glob(".*"))


def test_only_what_the_two_latest_refer_to_is_kept(job_of: JobOf) -> None:
    """Seen after every step: at most two checkpoints, each with all of the best weights that it names, all whole."""
    seen: list[int] = []

    def watch(line: dict[str, Any]) -> None:
        folder = job.folder / "checkpoints"
        kept = checkpoint.listed(folder)
        seen.append(len(kept))
        needed = set().union(*(bests_of(path) for path in kept))
        assert 1 <= len(kept) <= 2
        assert all(checkpoint.whole(path) for path in kept)
        assert all(checkpoint.whole(folder / name) for name in needed)

    job = job_of(strategy="average(lift(blocks=2), best=3)", **{**OPTIONS, **ALWAYS, "epochs": 1})
    job = dataclasses.replace(job, watch=watch)
    Loop(job).run()
    assert 2 in seen
    folder = job.folder / "checkpoints"
    kept = checkpoint.listed(folder)
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in kept} | set().union(*(bests_of(path) for path in kept))


@pytest.mark.parametrize("strategy", ["lift(blocks=2)", "average(then(probe, top(1)), best=2)"])
def test_runs_of_several_phases_go_on_to_the_same_bits(strategy: str, job_of: JobOf, tmp_path: Path) -> None:
    """Stopped at the first step of a phase, at the last of one, and at the last of all."""
    options = {"strategy": strategy, "steps": 4, "learning_rate": 3e-3, "validations_per_epoch": 3}
    expected = finished(job_of(**options))
    last = max(line["step"] for line in expected[1])
    for step in dict.fromkeys((5, 8, last)):
        with pytest.raises(Interrupted):
            Loop(job_of(watch=sigint_at(step - 1), folder=tmp_path, **options)).run()
        assert checkpoint.listed(tmp_path / "checkpoints")[0].name.startswith(f"{step:06d}")
    assert_equal(finished(job_of(folder=tmp_path, **options)), expected)


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("adamw", "bf16"), ("adam", "fp32"), ("sgd", "bf16"), ("adagrad", "fp32")]
)
def test_every_optimizer_goes_on_to_the_same_bits(
    optimizer: str, precision: str, job_of: JobOf, tmp_path: Path
) -> None:
    options = {"steps": 6, "optimizer": optimizer, "precision": precision, "batching": "grouped", "seed": 3}
    expected = finished(job_of(**options))
    with pytest.raises(Interrupted):
        Loop(job_of(watch=sigint_at(3), folder=tmp_path, **options)).run()
    assert_equal(finished(job_of(folder=tmp_path, **options)), expected)


def test_steps_that_were_measured_are_not_measured_again(job_of: JobOf, tmp_path: Path) -> None:
    timed = {"minutes": 0.006, "checkpoint_seconds": 1e-9}
    with pytest.raises(Interrupted):
        Loop(job_of(watch=sigint_at(1), folder=tmp_path, **timed)).run()
    (steps,) = checkpoint.facts(checkpoint.listed(tmp_path / "checkpoints")[0])["lengths"]
    outcome = Loop(job_of(folder=tmp_path, **timed)).run()
    assert outcome.position.lengths == [steps]
    assert outcome.position.done == steps


class TestFolders:
    """Writing and checking one folder."""

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        values = {"a": torch.randn(3, 2).T, "b": torch.tensor(7)}
        path = checkpoint.write(tmp_path, "000001-0", {"moved": values, "optimizer": {}}, {"done": 1, "text": "ü"})
        assert checkpoint.whole(path)
        assert checkpoint.facts(path) == {"done": 1, "text": "ü"}
        assert same(checkpoint.tensors(path, "moved"), values)
        assert checkpoint.tensors(path, "optimizer") == {}
        assert [path.name for path in tmp_path.iterdir()] == ["000001-0"]

    def test_a_second_writing_replaces_the_first(self, tmp_path: Path) -> None:
        for value in (1.0, 2.0):
            path = checkpoint.write(tmp_path, "000001-0", {"moved": {"a": torch.tensor(value)}}, {"value": value})
        assert checkpoint.whole(path)
        assert checkpoint.facts(path) == {"value": 2.0}
        assert float(checkpoint.tensors(path, "moved")["a"]) == 2.0

    def test_the_latest_comes_first_by_number(self, tmp_path: Path) -> None:
        for name in ("000009-0", "000010-0", "000010-1", "1000000-1", "best-000011", ".000012-0.77"):
            (tmp_path / name).mkdir()
        (tmp_path / "000013-0").write_text("a file")
        assert [path.name for path in checkpoint.listed(tmp_path)] == ["1000000-1", "000010-1", "000010-0", "000009-0"]
        assert checkpoint.listed(tmp_path / "nowhere") == []

    def test_pruning_removes_all_but_the_named(self, tmp_path: Path) -> None:
        for name in ("000001-0", "000002-0", "best-000001", ".000003-0.5"):
            (tmp_path / name).mkdir()
        checkpoint.prune(tmp_path, {"000002-0", "best-000001"})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["000002-0", "best-000001"]
