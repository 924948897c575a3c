"""Low-rank adapters against a reference written by hand: plain transformers, peft and torch, no cut, no engine.

Only which rows meet in a step is taken from whet (`batch_rows`), and the first weights of the head.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModel

from whet.engine.batches import batch_rows
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.models.quiet import quiet_libraries

JobOf = Callable[..., Job]
RATE, BATCH, STEPS = 1e-2, 16, 20


def losses_by_hand(folder: Path, job: Job, text: dict[str, object]) -> list[float]:
    """The loss of each step: one optimizer over adapters and head, linear warm-up and decay, clipping at 1."""
    with quiet_libraries():
        body = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        torch.manual_seed(0)
        adapted = get_peft_model(body, LoraConfig(task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, **text)).eval()
    out = nn.Linear(32, 3)
    out.load_state_dict(job.built.model.head.layers[-1].state_dict())

    def logits(inputs: dict[str, Tensor]) -> Tensor:
        states, mask = adapted(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        return out((states * mask).sum(1) / mask.sum(1))

    moving = [p for p in (*adapted.parameters(), *out.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, weight_decay=0.0)
    store, targets = job.train.store, job.train.targets
    per_epoch = -(-len(targets) // BATCH)
    losses, warm = [], 0.06 * STEPS
    for step in range(STEPS):
        rows = batch_rows(0, step // per_epoch, store.lengths, BATCH, "grouped")[step % per_epoch]
        loss = nn.functional.cross_entropy(logits(store.batch(rows)), torch.from_numpy(targets[rows]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(moving, 1.0)
        factor = (step + 1) / (int(-(-warm // 1)) + 1) if step < warm else 1 - (step - warm) / (STEPS - warm)
        optimizer.param_groups[0]["lr"] = RATE * factor
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ("lora(rank=4, alpha=8, targets=['query', 'value'])", {"target_modules": ["query", "value"]}),
        ("lora(rank=4, alpha=8)", {"target_modules": "all-linear"}),
        (
            "lora(rank=4, alpha=8, targets='query', rank_stabilized=True)",
            {"target_modules": ["query"], "use_rslora": True},
        ),
        ("lora(rank=4, alpha=8, targets='dense', dora=True)", {"target_modules": ["dense"], "use_dora": True}),
    ],
    ids=["query and value", "every linear layer", "rank stabilized", "dora"],
)
def test_the_losses_are_those_of_peft_by_hand(
    strategy: str, text: dict[str, object], job_of: JobOf, tiny_bert: Path
) -> None:
    options = {"learning_rate": RATE, "dropout": 0.0, "batch_size": BATCH, "steps": STEPS, "batching": "grouped"}
    job = job_of(strategy=strategy, **options)
    by_hand = losses_by_hand(tiny_bert, job, text)
    Loop(job).run()
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    ours = [line["loss"] for line in lines if line["split"] == "train"]
    assert len(ours) == len(by_hand) == STEPS
    assert by_hand[-1] < by_hand[0] - 0.02, "it has to learn for this to say anything"
    assert ours == pytest.approx(by_hand, abs=1e-5)
