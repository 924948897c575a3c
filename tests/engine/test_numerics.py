"""What changes no result: how a batch is split, how wide a row is padded. And what a step is: plain torch, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whet.engine.batches import batch_rows, split_batch
from whet.engine.forward import Forward
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.precision import processes
from whet.models.heads import outputs_of

JobOf = Callable[..., Job]
BUDGETS = (8, 130, 400, 100_000)


def losses(job: Job) -> list[float]:
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def first_gradient(job: Job) -> dict[str, Tensor]:
    """The gradient of step 1: what SGD's momentum holds after it."""
    loop = Loop(job)
    loop.run()
    state = loop.optimizer.state()
    return {key.removesuffix("|momentum_buffer"): value for key, value in state.items()}


def norm(values: dict[str, Tensor]) -> float:
    return float(torch.cat([value.reshape(-1) for value in values.values()]).norm())


@pytest.mark.parametrize(
    "options", [{}, {"head": "native", "class_weight": "balanced"}, {"strategy": "top(2)"}], ids=str
)
def test_the_first_gradient_hangs_on_no_token_budget(options: dict[str, Any], job_of: JobOf) -> None:
    fixed = {"steps": 1, "optimizer": "sgd", "max_grad_norm": 1e9, **options}
    made = [first_gradient(job_of(token_budget=budget, **fixed)) for budget in BUDGETS]
    assert norm(made[0]) > 1e-3
    for other in made[1:]:
        assert other.keys() == made[0].keys()
        assert norm({name: value - made[0][name] for name, value in other.items()}) < 1e-5 * norm(made[0])


@pytest.mark.parametrize(
    "options", [{}, {"verb": "train", "head": "mlp(8, dropout=0.2)", "learning_rate": 0.05}], ids=str
)
def test_twenty_losses_hang_on_no_token_budget(options: dict[str, Any], job_of: JobOf) -> None:
    curves = []
    for budget in BUDGETS:
        job = job_of(steps=20, token_budget=budget, **options)
        Loop(job).run()
        curves.append(losses(job))
    assert len(curves[0]) == 20
    assert min(curves[0]) < max(curves[0]) - 0.005
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("head", ["mean", "cls", "max", "last", "native"])
def test_padding_a_row_does_not_change_its_logits(
    family: str, head: str, job_of: JobOf, tiny_bert: Path, tiny_gpt2: Path
) -> None:
    own = {"head": "native"} if head == "native" else {"pooling": head}
    job = job_of(model=str(tiny_bert if family == "bert" else tiny_gpt2), **own)
    with torch.no_grad():
        for name in job.built.origin.new:
            job.built.model.get_parameter(name).normal_(generator=torch.Generator().manual_seed(3))
    forward = Forward(job.built.model.eval(), processes(), "fp32", 4096)
    order = np.argsort(job.train.store.lengths, kind="stable")
    assert job.train.store.lengths[order[-1]] > 3 * job.train.store.lengths[order[0]]
    together = np.array([*order[:5], order[-1]])
    with torch.no_grad():
        wide = forward(job.train.store, together)
        for place, row in enumerate(together):
            alone = forward(job.train.store, np.array([row]))[0]
            torch.testing.assert_close(wide[place], alone, rtol=1e-5, atol=2e-5)
    assert float(wide.std(0).min()) > 1e-2, "rows that do not differ show nothing"


def by_hand(job: Job, make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer], steps: int, rate: float) -> Any:
    """Plain torch: the rows of each step in the documented order, the mean loss, clipping, a linear schedule."""
    model, settings = job.built.model, job.settings
    kinds = {parameter.name: parameter.kind for parameter in job.anatomy.parameters}
    decay = job.plan.phases[0].optimizer.weight_decay
    parts = [
        {"params": [value], "weight_decay": decay if kinds[name] == "weight" else 0.0}
        for name, value in model.named_parameters()
    ]
    # Rows of the token table that no text uses stay as pretrained: weight decay does not shrink them.
    table = model.get_parameter("body.embeddings.word_embeddings.weight")
    used = np.concatenate([job.train.store.tokens, job.valid.store.tokens])
    unused = torch.tensor(sorted(set(range(len(table))) - set(used.tolist())))
    pretrained = table.detach()[unused].clone()
    optimizer = make(parts)
    loss_of = nn.CrossEntropyLoss(torch.tensor(job.task.weights), label_smoothing=settings.label_smoothing)
    lengths, seen = job.train.store.lengths, []
    model.train()
    while len(seen) < steps:
        for rows in batch_rows(settings.seed, len(seen) * settings.batch_size // len(lengths), lengths, 16, "random"):
            (ordered,) = split_batch(rows, lengths, settings.token_budget)
            loss = loss_of(
                outputs_of(model, job.train.store.batch(ordered)), torch.from_numpy(job.train.targets[ordered])
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            for part in optimizer.param_groups:
                part["lr"] = rate * (1 - len(seen) / steps)
            optimizer.step()
            with torch.no_grad():
                table[unused] = pretrained
            seen.append(float(loss.detach()))
            if len(seen) == steps:
                break
    return seen


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "adamw": lambda parts: torch.optim.AdamW(parts, foreach=False),
    "adam(weight_decay=0.01)": lambda parts: torch.optim.Adam(parts, foreach=False),
    "sgd(momentum=0.9, weight_decay=0.01)": lambda parts: torch.optim.SGD(parts, momentum=0.9, foreach=False),
    "adagrad": lambda parts: torch.optim.Adagrad(parts, foreach=False),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_five_steps_are_a_plain_torch_loop(optimizer: str, job_of: JobOf) -> None:
    rate = 0.05 if "sgd" in optimizer else 1e-3
    options = {
        "strategy": "phases('everything()')",
        "batching": "random",
        "steps": 5,
        "optimizer": optimizer,
        "learning_rate": rate,
        "schedule": "linear",
        "warmup": 0.0,
        "dropout": 0.0,
        "max_grad_norm": 0.5,
        "token_budget": 100_000,
        "label_smoothing": 0.1,
        "class_weight": "balanced",
    }
    job, plain = job_of(**options), job_of(**options)
    start = {name: value.detach().clone() for name, value in plain.built.model.named_parameters()}
    Loop(job).run()
    expected = by_hand(plain, OPTIMIZERS[optimizer], 5, rate)
    np.testing.assert_allclose(losses(job), expected, rtol=1e-6)
    weights = dict(plain.built.model.named_parameters())
    for name, value in job.built.model.named_parameters():
        # The bias of an attention key has no effect on the output: its gradient is rounding, which Adam blows up.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(value, weights[name], rtol=1e-5, atol=5e-6, msg=name)
    assert any(not torch.equal(value, weights[name]) for name, value in start.items())


def test_gradients_are_clipped_to_the_norm_asked_for(job_of: JobOf) -> None:
    """Scaled as a whole, not one by one; one below the norm is left alone."""
    fixed = {"steps": 1, "optimizer": "sgd", "strategy": "full"}
    free = first_gradient(job_of(max_grad_norm=1e9, **fixed))
    size = norm(free)
    for limit in (size / 7, size * 1.5):
        clipped = first_gradient(job_of(max_grad_norm=limit, **fixed))
        scale = min(1.0, limit / size)
        assert norm(clipped) == pytest.approx(min(limit, size), rel=1e-5)
        for name, value in clipped.items():
            torch.testing.assert_close(value, free[name] * scale, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_loss_is_torchs_mean_over_the_whole_batch(
    smoothing: float, weights: str, budget: int, job_of: JobOf, uneven: list[tuple[str, str]]
) -> None:
    fixed = {"steps": 1, "dropout": 0.0, "batch_size": 13, "data": uneven}
    job = job_of(token_budget=budget, label_smoothing=smoothing, class_weight=weights, **fixed)
    assert (len(set(job.task.weights)) > 1) == (weights == "balanced")
    rows = batch_rows(job.settings.seed, 0, job.train.store.lengths, 13, "grouped")[0]
    outputs = outputs_of(job.built.model.eval(), job.train.store.batch(rows)).detach()
    mean = nn.CrossEntropyLoss(torch.tensor(job.task.weights), label_smoothing=smoothing)
    expected = float(mean(outputs, torch.from_numpy(job.train.targets[rows])))
    Loop(job).run()
    assert losses(job)[0] == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def uneven(rows_csv: Path) -> list[tuple[str, str]]:
    """Rows of which half have one label."""
    from whet.data.read import read

    table = read(rows_csv)
    pairs = list(zip(table.columns["text"], table.columns["label"], strict=True))
    return [pair for number, pair in enumerate(pairs) if pair[1] == "loan_request" or number % 3 == number % 2]
