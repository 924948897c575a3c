"""Rows of other data in the batches: against a reference written by hand, through kills, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import whet
from tiny import rows_of_messages
from whet.engine.batches import batch_rows
from whet.engine.draws import seed_of
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.errors import DataError, PathError, StrategyError

JobOf = Callable[..., Job]
RATE, STEPS, BATCH = 0.02, 4, 16
OPTIONS: dict[str, Any] = {
    "learning_rate": RATE, "dropout": 0.0, "steps": STEPS, "schedule": "constant", "warmup": 0,
    "optimizer": "sgd(momentum=0.0)", "batching": "random", "max_grad_norm": 1e6, "batch_size": BATCH,
}  # fmt: skip


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def same_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 rows with labels of the task, of other texts than the task's."""
    every = [row for row in rows_of_messages() if row["label"] in ("card_problem", "loan_request")]
    chosen = [(row["text"].replace('"', "'"), row["label"]) for row in every if row["label"] == "card_problem"][40:55]
    chosen += [(row["text"].replace('"', "'"), row["label"]) for row in every if row["label"] == "loan_request"][40:55]
    return write(tmp_path_factory.mktemp("replay") / "more.csv", chosen)


@pytest.fixture(scope="module")
def other_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 rows of another task."""
    rows = [(f"a text of the {word} kind number {n}", word) for n in range(13) for word in ("short", "long")]
    return write(tmp_path_factory.mktemp("replay") / "sizes.csv", rows)


def losses_of(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


@pytest.mark.parametrize("kind", ["same", "other"])
def test_replay_is_the_mixture_written_by_hand(kind: str, same_labels: Path, other_labels: Path, job_of: JobOf) -> None:
    source = same_labels if kind == "same" else other_labels
    job = job_of(strategy=f"with_replay(full, {str(source)!r}, share=0.25)", **OPTIONS)
    (beside,) = job.beside
    model: Any = copy.deepcopy(job.built.model).eval()
    second = model.head if kind == "same" else model.others[0]
    assert (beside.head == frozenset()) == (kind == "same")

    def outputs(head: nn.Module, part: Any, rows: np.ndarray) -> torch.Tensor:
        inputs = part.store.batch(rows)
        mask = inputs["attention_mask"].unsqueeze(-1)
        return head((model.body(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1))

    def loss_of(head: nn.Module, part: Any, rows: np.ndarray) -> torch.Tensor:
        return nn.functional.cross_entropy(
            outputs(head, part, rows), torch.from_numpy(part.targets[rows]), reduction="sum"
        )

    own = [rows for epoch in range(2) for rows in batch_rows(0, epoch, job.train.store.lengths, 12, "random")]
    theirs = [
        rows for epoch in range(2) for rows in batch_rows(seed_of(0, 1), epoch, beside.part.store.lengths, 4, "random")
    ]
    expected = []
    for step in range(STEPS):
        model.zero_grad()
        loss = loss_of(model.head, job.train, own[step])
        replayed = loss_of(second, beside.part, theirs[step])
        expected.append(loss.item() / len(own[step]))
        ((loss + replayed) / (len(own[step]) + len(theirs[step]))).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    parameter -= RATE * (10 if name.startswith(("head", "others")) else 1) * parameter.grad
    Loop(job).run()
    assert losses_of(job.folder) == pytest.approx(expected, rel=1e-5)


class Crash(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("text", ["with_replay({base}, {source!r})", "gradual_fine_tuning({base}, {source!r})"])
@pytest.mark.parametrize("base", ["full", "top(2)"])
def test_a_killed_run_ends_with_the_same_bits(text: str, base: str, other_labels: Path, job_of: JobOf) -> None:
    options: dict[str, Any] = {"strategy": text.format(base=base, source=str(other_labels)), "steps": 5}
    options |= {"checkpoint_seconds": 0.001, "learning_rate": 3e-3}
    whole = job_of(**options)
    total = Loop(whole).run().position.done

    def crash(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == total - 1:
            raise Crash

    stopped = job_of(**options, watch=crash)
    with pytest.raises(Crash):
        Loop(stopped).run()
    again = job_of(**options, folder=stopped.folder)
    Loop(again).run()
    left, right = whole.built.model.state_dict(), again.built.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert losses_of(whole.folder) == losses_of(again.folder)
    started = whole.fresh()
    assert not torch.equal(left["others.0.layers.1.weight"], started["others.0.layers.1.weight"]), (
        "its head stood still"
    )


def test_cut_and_uncut_are_equal_up_to_rounding(other_labels: Path, job_of: JobOf) -> None:
    text = f"with_replay(top(2), {str(other_labels)!r})"
    made = [job_of(strategy=text, steps=6, batching="random", cut=cut) for cut in (True, False)]
    outcomes = [Loop(job).run() for job in made]
    assert outcomes[0].captures
    assert not outcomes[1].captures
    assert losses_of(made[0].folder) == pytest.approx(losses_of(made[1].folder), rel=1e-4)


def test_the_share_falls_from_turn_to_turn(same_labels: Path, job_of: JobOf) -> None:
    job = job_of(strategy=f"gradual_fine_tuning(full, {str(same_labels)!r}, shares=[0.5, 0.25, 0])", batch_size=8)
    assert [phase.rows_per_step(8) for phase in job.plan.phases] == [(4, 4), (6, 2), (8,)]
    assert len(job.beside) == 1, "one file in two phases is read once"
    assert [phase.length.amount for phase in job.plan.phases] == [1, 1, 1]


def test_what_cannot_be_replayed_is_refused(other_labels: Path, job_of: JobOf, tmp_path: Path) -> None:
    source = repr(str(other_labels))
    with pytest.raises(StrategyError, match="needs a file of labelled rows"):
        job_of(strategy="with_replay")
    with pytest.raises(StrategyError, match="did you mean reservoir"):
        job_of(strategy=f"with_replay(full, {source}, keep='resevoir')")
    with pytest.raises(StrategyError, match="share must lie between"):
        job_of(strategy=f"with_replay(full, {source}, share=1.5)")
    with pytest.raises(StrategyError, match="no room for replay"):
        Loop(job_of(strategy=f"with_replay(full, {source})", batch_size=1, steps=1)).run()
    with pytest.raises(PathError, match=r"nowhere\.csv"):
        job_of(strategy="with_replay(full, 'nowhere.csv')")
    with pytest.raises(StrategyError, match="leave out --head native"):
        job_of(strategy=f"with_replay(full, {source})", head="native")
    one = write(tmp_path / "one.csv", [(f"text {n}", "single") for n in range(9)])
    with pytest.raises(DataError, match="has the label 'single'"):
        job_of(strategy=f"with_replay(full, {str(one)!r})")


def test_rows_that_are_also_scored_are_left_out_and_counted(rows_csv: Path, job_of: JobOf, tmp_path: Path) -> None:
    job = job_of(strategy=f"with_replay(full, {str(rows_csv)!r})")
    (beside,) = job.beside
    assert len(beside.part.targets) == 120 - len(job.valid.targets) - 18


def test_a_reservoir_is_drawn_once_by_the_seed(same_labels: Path, job_of: JobOf) -> None:
    text = f"with_replay(full, {str(same_labels)!r}, keep='reservoir', rows=10)"
    lines = [job_of(strategy=text, seed=seed).beside[0].part.lines for seed in (0, 0, 1)]
    assert len(lines[0]) == 10
    assert lines[0] == lines[1] != lines[2]


def test_a_run_says_what_it_replayed_and_keeps_the_head(
    tiny_bert: Path, rows_csv: Path, other_labels: Path, tmp_path: Path
) -> None:
    strategy = f"with_replay(full, {str(other_labels)!r})"
    options: dict[str, Any] = {"steps": 6, "threads": 1, "quiet": True, "baselines": False}
    run = whet.fine_tune(rows_csv, model=str(tiny_bert), out=tmp_path / "run", strategy=strategy, **options)
    (facts,) = run.asked["data"]["replay"]
    assert facts["rows"] == 26
    assert facts["labels"] == ["long", "short"]
    kept = run.path / "model" / "heads" / "sizes"
    assert json.loads((kept / "head.json").read_text())["labels"] == ["long", "short"]
    assert run.predict(["my card was swallowed"])[0] in run.labels


def test_a_head_that_came_with_the_model_goes_on_from_there(
    tiny_bert: Path, rows_csv: Path, other_labels: Path, tmp_path: Path, job_of: JobOf
) -> None:
    options: dict[str, Any] = {"steps": 6, "threads": 1, "quiet": True, "baselines": False}
    first = whet.fine_tune(other_labels, model=str(tiny_bert), out=tmp_path / "first", **options)
    job = job_of(model=str(first.path / "model"), strategy=f"with_replay(full, {str(other_labels)!r})")
    model: Any = job.built.model
    from safetensors.torch import load_file

    saved = load_file(first.path / "model" / "head.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in model.others[0].state_dict().items())
