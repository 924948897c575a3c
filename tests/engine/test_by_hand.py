"""Strategies against a reference written by hand: plain transformers and torch, no cut, no capture, no engine.

Only which rows meet in a step is taken from whet (`batch_rows`), and the first weights of the head. Adam's epsilon is
large here: some gradients of attention (the bias of the keys) are zero but for rounding, and the usual one would
blow that up to whole steps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whet.engine import checkpoint
from whet.engine.batches import batch_rows
from whet.engine.job import Job
from whet.engine.loop import Loop

JobOf = Callable[..., Job]
RATE, DECAY, BATCH, EPSILON = 2e-3, 0.01, 16, 1e-3


class ByHand(nn.Module):
    """Mean of the last states over real tokens, then linear."""

    def __init__(self, folder: Path, head: nn.Module) -> None:
        super().__init__()
        from transformers import AutoModel

        self.body = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        self.out = nn.Linear(32, 3)
        self.out.load_state_dict(head.layers[-1].state_dict())

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        states, mask = self.body(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        return self.out((states * mask).sum(1) / mask.sum(1))

    def groups(self) -> list[list[tuple[str, nn.Parameter]]]:
        """Head first, then the blocks from the top, then the embeddings."""
        layers = [list(layer.named_parameters()) for layer in reversed(self.body.encoder.layer)]
        return [list(self.out.named_parameters()), *layers, list(self.body.embeddings.named_parameters())]


def slope(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a share of the phase, then linear to zero."""
    warm = warmup * total
    if step < warm:
        return (step + 1) / (int(np.ceil(warm)) + 1)
    return 1 - (step - warm) / (total - warm)


class Trainer:
    """One optimizer over the whole run, to which groups are added, as one would do by hand."""

    def __init__(self, job: Job, model: ByHand) -> None:
        self.job, self.model, self.epoch = job, model, 0
        self.optimizer: torch.optim.AdamW | None = None

    def opens(self, named: list[tuple[str, nn.Parameter]], factor: float = 1, *, anew: bool = False) -> None:
        plain = [p for n, p in named if n.endswith("bias") or "LayerNorm" in n]
        weights = [p for n, p in named if not (n.endswith("bias") or "LayerNorm" in n)]
        parts = [{"params": weights, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
        parts = [{**part, "factor": factor} for part in parts if part["params"]]
        if anew or self.optimizer is None:
            self.optimizer = torch.optim.AdamW(parts, eps=EPSILON)
        else:
            for part in parts:
                self.optimizer.add_param_group(part)

    def epoch_of(self, rate: float, warmup: float) -> None:
        assert self.optimizer is not None
        store, targets = self.job.train.store, self.job.train.targets
        moving = [p for part in self.optimizer.param_groups for p in part["params"]]
        for parameter in self.model.parameters():
            parameter.requires_grad_(any(parameter is p for p in moving))
        batches = batch_rows(0, self.epoch, store.lengths, BATCH, "grouped")
        for step, rows in enumerate(batches):
            loss = nn.functional.cross_entropy(self.model(store.batch(rows)), torch.from_numpy(targets[rows]))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(moving, 1.0)
            for part in self.optimizer.param_groups:
                part["lr"] = rate * part["factor"] * slope(step, len(batches), warmup)
            self.optimizer.step()
        self.epoch += 1


def discriminative(trainer: Trainer) -> None:
    for depth, group in enumerate(trainer.model.groups()):
        trainer.opens(group, 0.8**depth * (10 if depth == 0 else 1))
    trainer.epoch_of(RATE, 0.06)


def gradual_unfreezing(trainer: Trainer) -> None:
    for number, group in enumerate(trainer.model.groups()):
        trainer.opens(group)
        trainer.epoch_of(RATE, 0.06 if number else 0.0)


def lift(trainer: Trainer) -> None:
    for number, group in enumerate(trainer.model.groups()[:-1]):
        trainer.opens(group, anew=True)
        trainer.epoch_of(RATE, 0.06 if number else 0.0)


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("discriminative(full(length='1 epoch'), decay=0.8)", discriminative),
        ("gradual_unfreezing", gradual_unfreezing),
        ("lift", lift),
    ],
)
def test_a_strategy_ends_where_the_hand_written_reference_ends(
    text: str, by_hand: Callable[[Trainer], None], job_of: JobOf, tiny_bert: Path
) -> None:
    options = {"learning_rate": RATE, "dropout": 0.0, "batch_size": BATCH, "optimizer": f"adamw(eps={EPSILON})"}
    job = job_of(strategy=text, batching="grouped", **options)
    trainer = Trainer(job, ByHand(tiny_bert, job.built.model.head).eval())
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    by_hand(trainer)
    Loop(job).run()
    latest = checkpoint.listed(job.folder / "checkpoints")[0]
    ours = checkpoint.tensors(latest, "moved")
    theirs = {name.replace("out.", "head.layers.1."): value for name, value in trainer.model.named_parameters()}
    table = "body.embeddings.word_embeddings.weight"
    if table in ours:  # whet trains only the rows in use; the others must not have gained by hand either
        rows = torch.from_numpy(np.union1d(job.train.store.tokens, job.valid.store.tokens))
        theirs[table] = theirs[table][rows]
    furthest = max(float((ours[name] - theirs[name].detach()).abs().max()) for name in ours)
    far = [float((value.detach() - before[name]).abs().max()) for name, value in trainer.model.named_parameters()]
    assert sorted(far)[len(far) // 2] > 1e-4, "most of it has to move for this to say anything"
    assert furthest < 1e-5
