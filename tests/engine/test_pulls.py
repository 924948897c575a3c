"""Pulls towards the pretrained model, against a reference written by hand, and through kills."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import whet
from whet.engine.batches import batch_rows
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.errors import ModelError, StrategyError

JobOf = Callable[..., Job]
RATE, STEPS = 0.2, 5
OPTIONS: dict[str, Any] = {
    "learning_rate": RATE, "dropout": 0.0, "steps": STEPS, "schedule": "constant", "warmup": 0,
    "optimizer": "sgd(momentum=0.0)", "batching": "random", "max_grad_norm": 1e6,
}  # fmt: skip


def losses_of(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def penalty_by_hand(name: str, strength: float, model: nn.Module, base: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    if name == "weights":
        pretrained = dict(base.body.named_parameters())
        return strength / 2 * sum((p - pretrained[n]).square().sum() for n, p in model.body.named_parameters())
    mask = inputs["attention_mask"].unsqueeze(-1)

    def features(one: nn.Module) -> Tensor:
        return (one.body(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)

    return strength * (features(model) - features(base).detach()).square().mean(1).mean()


@pytest.mark.parametrize(("name", "strength"), [("weights", 2.0), ("features", 30.0)])
def test_a_pull_is_the_penalty_written_by_hand(name: str, strength: float, job_of: JobOf) -> None:
    job = job_of(strategy=f"pull_to_base(full, {name}={strength})", **OPTIONS)
    plain = job_of(strategy="full", **OPTIONS)
    model: Any = copy.deepcopy(job.built.model).eval()
    base = copy.deepcopy(model)
    store, targets, expected = job.train.store, job.train.targets, []
    for rows in batch_rows(0, 0, store.lengths, 16, "random")[:STEPS]:
        inputs = store.batch(rows)
        loss = nn.functional.cross_entropy(model(**inputs), torch.from_numpy(targets[rows]))
        expected.append(loss.item())
        model.zero_grad()
        (loss + penalty_by_hand(name, strength, model, base, inputs)).backward()
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                factor = 10 if parameter_name.startswith("head") else 1
                if parameter.grad is not None:
                    parameter -= RATE * factor * parameter.grad
    Loop(job).run()
    Loop(plain).run()
    own, without = losses_of(job.folder), losses_of(plain.folder)
    assert own == pytest.approx(expected, rel=1e-5)
    assert own != pytest.approx(without, rel=1e-3), "the pull changed nothing"


def distance(job: Job) -> float:
    """How far the body has gone from where it started."""
    started, moved = job.fresh(), dict(job.built.model.named_parameters())
    return float(sum((moved[n] - started[n]).square().sum() for n in moved if n.startswith("body")).detach())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["weights", "features"])
def test_a_stronger_pull_keeps_nearer(name: str, job_of: JobOf) -> None:
    found = []
    for strength in (0.001, 20.0):
        job = job_of(strategy=f"pull_to_base({name}={strength})", steps=15, learning_rate=3e-3, dropout=0.0)
        Loop(job).run()
        found.append(distance(job))
    assert found[1] < 0.9 * found[0]


def test_a_pull_says_when_there_is_nothing_to_pull(job_of: JobOf, tiny_gpt2: Path) -> None:
    with pytest.raises(StrategyError, match="nothing of the body moves"):
        job_of(strategy="pull_to_base(probe)")
    with pytest.raises(StrategyError, match="must be above 0"):
        job_of(strategy="pull_to_base(weights=-1)")
    job = job_of(model=str(tiny_gpt2), strategy="pull_to_base(features=1.0)", head="native", steps=1)
    with pytest.raises(StrategyError, match="one vector per row"):
        Loop(job).run()


@pytest.fixture(scope="module")
def first_run(tiny_bert: Path, rows_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Results of two runs on the rows, one with a pooled and one with a native head."""
    made = {}
    for head in ("linear", "native"):
        out = tmp_path_factory.mktemp("first") / head
        options: dict[str, Any] = {"steps": 12, "head": head, "threads": 1, "quiet": True, "baselines": False}
        whet.fine_tune(rows_csv, model=str(tiny_bert), out=out, **options)
        made[head] = out / "model"
    return made


@pytest.mark.parametrize("head", ["linear", "native"])
def test_a_kept_head_answers_as_before(head: str, first_run: dict[str, Path], job_of: JobOf) -> None:
    job = job_of(model=str(first_run[head]), head="kept")
    again = whet.load(first_run[head].parent)
    assert job.built.origin.new == ()
    texts = ["my card was swallowed", "where is my order", "i would like to borrow money for a house"]
    with torch.no_grad():
        outputs = Loop(job).forward.all(job.valid.store)
    assert np.isfinite(outputs).all()
    encoded, part = again._outputs(again.task.items(texts))
    assert Loop(job).forward.all(part.store) == pytest.approx(encoded, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("head", ["linear", "native"])
def test_kl_to_base_holds_the_answers(head: str, first_run: dict[str, Path], job_of: JobOf) -> None:
    def divergence(strategy: str) -> float:
        job = job_of(model=str(first_run[head]), head="kept", strategy=strategy, steps=15, learning_rate=3e-3)
        loop = Loop(job)
        before = torch.from_numpy(loop.forward.all(job.train.store)).log_softmax(1)
        loop.run()
        after = torch.from_numpy(loop.forward.all(job.train.store)).log_softmax(1)
        return float(nn.functional.kl_div(after, before, log_target=True, reduction="batchmean"))

    assert divergence("kl_to_base(strength=10.0)") < 0.5 * divergence("full")


def test_kl_to_base_needs_the_head_that_came_with_the_model(
    first_run: dict[str, Path], tiny_bert: Path, job_of: JobOf, tmp_path: Path
) -> None:
    with pytest.raises(StrategyError, match="--head kept"):
        job_of(strategy="kl_to_base")
    with pytest.raises(ModelError, match="no head that could be kept"):
        job_of(model=str(tiny_bert), head="kept")
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(40)))
    with pytest.raises(ModelError, match=r"made for other labels \(card_problem"):
        job_of(model=str(first_run["linear"]), head="kept", data=other)


class Crash(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("text", ["pull_to_base(lift, weights=0.1, features=1.0)", "interpolate(top(2))"])
def test_a_killed_run_ends_with_the_same_bits(text: str, job_of: JobOf) -> None:
    """Killed in a late phase, when the body is no longer what it was."""
    options = {"strategy": text, "steps": 3, "checkpoint_seconds": 0.001, "learning_rate": 3e-3}
    whole = job_of(**options)
    total = Loop(whole).run().position.done

    def crash(line: dict[str, Any]) -> None:
        if line.get("split") == "train" and line["step"] == total:
            raise Crash

    stopped = job_of(**options, watch=crash)
    with pytest.raises(Crash):
        Loop(stopped).run()
    again = job_of(**options, folder=stopped.folder)
    Loop(again).run()
    left, right = whole.built.model.state_dict(), again.built.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert losses_of(whole.folder) == losses_of(again.folder)


def test_interpolating_by_a_share_is_that_much_of_the_way(job_of: JobOf) -> None:
    tuned, half = (job_of(strategy=text, **OPTIONS) for text in ("full", "interpolate(full, share=0.5)"))
    Loop(tuned).run()
    outcome = Loop(half).run()
    base, whole, ours = (
        tuned.fresh(),
        dict(tuned.built.model.named_parameters()),
        dict(half.built.model.named_parameters()),
    )
    assert "0.5 of the way" in outcome.kept_as
    for name, value in ours.items():
        expected = whole[name] if name.startswith("head") else (base[name] + whole[name]) / 2
        assert torch.allclose(value, expected, atol=1e-6)


def test_the_share_is_the_best_on_validation(job_of: JobOf) -> None:
    job = job_of(strategy="interpolate", steps=20, learning_rate=1e-3)
    outcome = Loop(job).run()
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    tried = [line for line in lines if "of the way" in line["phase"]]
    assert len(tried) == 11
    assert outcome.kept.score == max(line["accuracy"] for line in tried)
    again = job.task.score(Loop(job).forward.all(job.valid.store), job.valid)
    assert again["accuracy"] == outcome.kept.score
