"""The gradient of one step: of the mean loss over a whole batch, however it is divided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor, nn

from whet.data.store import TokenStore
from whet.engine.batches import split_batch
from whet.engine.forward import Forward
from whet.errors import NonFiniteError, TrainingError
from whet.models.dropout import Key, mix
from whet.tasks.task import Task


@dataclass(frozen=True)
class Part:
    """Rows ready for the model: tokens, targets, and the line of each row in its source."""

    store: TokenStore
    targets: np.ndarray
    lines: tuple[int, ...]


@dataclass
class Gradient:
    """Computes gradients of the task's loss on training rows. All chance hangs on `seed` and the step."""

    forward: Forward
    task: Task
    part: Part
    key: Key
    seed: int

    def __call__(self, rows: np.ndarray, step: int, moving: Mapping[str, nn.Parameter]) -> float:
        """Leave in each moving parameter the gradient of the mean loss over `rows`; returns that loss.

        The sum over all micro-batches of all processes is divided by the count of the whole batch.
        """
        place, device = self.forward.place, self.forward.device
        count = self.task.count(self.part.targets[rows])
        total = torch.zeros((), device=device)
        for number, micro in enumerate(split_batch(rows, self.part.store.lengths, self.forward.token_budget)):
            if number % place.num_processes != place.process_index:
                continue
            self.key.turn(self.seed, step, micro, device)
            torch.manual_seed(mix(self.seed, step, number) >> 1)
            targets = torch.from_numpy(self.part.targets[micro]).to(device)
            loss = self.task.loss(self.forward(self.part.store, micro), targets) / count
            loss.backward()
            total += loss.detach()
        if place.num_processes > 1:
            sum_over_processes(total, moving)
        return float(total)

    def norm(self, rows: np.ndarray, step: int, loss: float, moving: Mapping[str, nn.Parameter]) -> float:
        """The length of the gradient. Raises `NonFiniteError` naming the rows where loss or gradient is no number."""
        norm = float(nn.utils.get_total_norm([p.grad for p in moving.values() if p.grad is not None]))
        if math.isfinite(loss) and math.isfinite(norm):
            return norm
        lines = ", ".join(str(self.part.lines[row]) for row in rows[:8])
        raise NonFiniteError(
            f"step {step + 1}: the loss or its gradient is not finite; the weights were not touched. "
            f"Rows of this step: lines {lines}{', ...' if len(rows) > 8 else ''}. "
            "Try a lower --learning-rate, or --precision fp32"
        )


def sum_over_processes(total: Tensor, moving: Mapping[str, nn.Parameter]) -> None:
    """Replace loss and gradients by their sums over all processes."""
    parts: Sequence[Tensor] = [total]
    for parameter in moving.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parts = [*parts, parameter.grad]
    flat = reduce(torch.cat([part.reshape(-1) for part in parts]), "sum")
    for part, value in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(value.view_as(part))


def check_reached(moving: Mapping[str, nn.Parameter]) -> None:
    """Raises `TrainingError` when a parameter that should move got no gradient."""
    without = [name for name, parameter in moving.items() if parameter.grad is None]
    if without:
        raise TrainingError(
            f"{len(without)} parameters that should move got no gradient, for example {without[0]}: "
            "they take no part in the model's output. Choose others to train"
        )


def forget(moving: Mapping[str, nn.Parameter]) -> None:
    for parameter in moving.values():
        parameter.grad = None
