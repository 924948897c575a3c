"""The model families that every strategy has to serve: BERT-like, GPT-like with a classification head, ResNet-like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from whet.config import resolve
from whet.data.check import Rows
from whet.data.store import Part
from whet.engine.job import Beside, Job
from whet.models.adapters import put_in
from whet.models.anatomy import anatomy_of
from whet.models.heads import outputs_of
from whet.models.load import Built, Origin, key_dropouts
from whet.plan.edits import Adapter, NewHead
from whet.tasks.classification import Classification


@dataclass(frozen=True)
class ArrayStore:
    """Small pictures as rows: all of one size, nothing to pad. What the engine asks of a store, and no more."""

    pictures: np.ndarray
    ragged: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> np.ndarray:
        return np.full(len(self), 8)

    @property
    def starts(self) -> np.ndarray:
        return np.arange(len(self) + 1) * 8

    @property
    def tokens(self) -> np.ndarray:
        return np.zeros(0, np.int64)

    @property
    def fingerprint(self) -> bytes:
        return self.pictures.tobytes()[:64]

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        return {"pixel_values": torch.from_numpy(self.pictures[rows])}


def tiny_resnet() -> torch.nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(5)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 16], "depths": [1, 2, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes)).eval()


def picture_job(folder: Path, watch: Callable[[dict[str, Any]], None], strategy: Any, **options: Any) -> Job:
    """A job on 48 made pictures in three labels: each label has its own mean colour. 12 more can be replayed."""
    model = tiny_resnet()
    chance = np.random.default_rng(0)
    targets = np.arange(60) % 3
    pictures = chance.normal(size=(60, 3, 16, 16)).astype(np.float32)
    pictures[np.arange(60), targets] += 0.7
    new = tuple(name for name, _ in model.named_parameters() if name.startswith("classifier"))
    built = Built(model, NewHead(kind="native"), Origin(0, new, ()), key_dropouts(model))
    inputs = {"pixel_values": torch.from_numpy(pictures[:2])}
    anatomy = anatomy_of(model, "tiny resnet", inputs, outputs_of, new)
    resolved = resolve("fine_tune", {"precision": "fp32", "cache": "off", "strategy": strategy, **options})
    plan = resolved.strategy(anatomy, resolved.settings.defaults())
    for edit in plan.edits:
        if isinstance(edit, Adapter):
            put_in(model, edit, new, 0, "tiny resnet")  # refused: no strategy can add anything to pictures yet
    labels = ("0", "1", "2")
    rows = Rows("pictures", ("",) * 36, tuple(str(t) for t in targets[:36]), tuple(range(36)))
    parts = [
        Part(ArrayStore(pictures[s]), targets[s], tuple(range(s.start, s.stop)))
        for s in (slice(0, 36), slice(36, 48), slice(48, 60))
    ]
    plan = resolved.strategy(anatomy, resolved.settings.defaults())
    task = Classification.of(rows, labels, resolved.settings)
    pools = dict.fromkeys(replay.pool for phase in plan.phases for replay in phase.replay)
    return Job(
        built=built,
        anatomy=anatomy,
        plan=plan,
        task=task,
        train=parts[0],
        valid=parts[1],
        settings=resolved.settings,
        precision="fp32",
        folder=folder,
        cache=None,
        identity="pictures",
        fresh=lambda: dict(tiny_resnet().named_parameters()),
        watch=watch,
        beside=tuple(Beside(pool, parts[2], task, model, frozenset()) for pool in pools),
    )
