"""The gradient of one step: of the mean loss over a whole batch, however it is divided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor, nn

from whet.data.store import Part, as_tensor
from whet.engine.batches import split_batch
from whet.engine.forward import Forward
from whet.engine.pulls import Pulls
from whet.errors import TrainingError
from whet.models.dropout import Key, mix
from whet.tasks.task import Task


@dataclass(frozen=True)
class Source:
    """Rows that steps draw from: the part, the task that scores it, the model that it goes through. Number 0 is the
    run's own task, others are replayed."""

    number: int
    forward: Forward
    task: Task
    part: Part


@dataclass
class Gradient:
    """Computes gradients of the loss on training rows. All chance hangs on `seed` and the step."""

    own: Source
    key: Key
    seed: int
    pulls: Pulls | None = None

    def __call__(
        self,
        rows: np.ndarray,
        step: int,
        moving: Mapping[str, nn.Parameter],
        scale: Tensor | float = 1.0,
        beside: Sequence[tuple[Source, np.ndarray]] = (),
    ) -> Tensor:
        """Leave in each moving parameter the gradient of the mean loss over `rows` and the rows of sources `beside`
        them, and of what pulls add to it, times `scale`; returns the mean loss over `rows` alone.

        The sum over all micro-batches of all processes is divided by the count of the whole batch.
        """
        place, device = self.own.forward.place, self.own.forward.device
        drawn = [(self.own, rows), *beside]
        counts = [source.task.count(source.part.targets[chosen]) for source, chosen in drawn]
        total = torch.zeros((), device=device)
        for number, (source, micro) in enumerate(micro_batches(drawn)):
            if number % place.num_processes != place.process_index:
                continue
            self.key.turn(mix(self.seed, source.number) if source.number else self.seed, step, micro, device)
            seed_device(mix(self.seed, step, number) >> 1, device)
            targets = as_tensor(source.part.targets[micro]).to(device)
            outputs = source.forward(source.part.store, micro)
            loss = source.task.loss(outputs, targets) / sum(counts)
            if source.number == 0:
                total += loss.detach() * (sum(counts) / counts[0])
                loss = loss + self.pulls.on_rows(outputs, micro) / len(rows) if self.pulls else loss
            (loss * scale).backward()
        if place.num_processes > 1:
            sum_over_processes(total, moving)
        if self.pulls:
            self.pulls.on_weights(moving, scale)
        return total


def micro_batches(drawn: Sequence[tuple[Source, np.ndarray]]) -> Iterator[tuple[Source, np.ndarray]]:
    """What goes through a model at once, source by source."""
    for source, rows in drawn:
        for micro in split_batch(rows, source.part.store.lengths, source.forward.token_budget):
            yield source, micro


def length_of(moving: Mapping[str, nn.Parameter]) -> Tensor:
    """The length of the gradient."""
    return nn.utils.get_total_norm([p.grad for p in moving.values() if p.grad is not None])


def seed_device(seed: int, device: torch.device) -> None:
    """Seed the chance of a device. `torch.manual_seed` would also note the call for every kind of device that is not
    there, with a traceback each: slow in a loop, and kept for good."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


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
