"""Steps that are done but whose loss nobody has read: reading makes the processor wait for an accelerator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whet.errors import NonFiniteError

AT_ONCE = 16
"""Steps that are read together on an accelerator; a processor reads each."""
GROWTH, BACKOFF, INTERVAL, START = 2.0, 0.5, 2000, 65536.0


@dataclass(frozen=True)
class Step:
    """Step `number` of the run (from 1) on `rows`: its mean loss, the length of its gradient, and its line of
    progress.jsonl, but for the loss, with what is shown beside."""

    number: int
    rows: np.ndarray
    loss: Tensor
    norm: Tensor
    line: dict[str, Any]
    shown: dict[str, Any]

    @property
    def finite(self) -> Tensor:
        return (self.loss + self.norm).isfinite()


class Unread:
    """Steps in the order they were taken. `lines` names the source line of each training row, for errors."""

    def __init__(self, lines: Sequence[int], device: torch.device) -> None:
        self.lines, self.most = lines, 1 if device.type == "cpu" else AT_ONCE
        self.steps: list[Step] = []

    def add(self, step: Step) -> None:
        self.steps.append(step)

    @property
    def full(self) -> bool:
        return len(self.steps) >= self.most

    def read(self, scale: LossScale | None) -> list[tuple[Step, float]]:
        """The steps with their losses. Raises `NonFiniteError` for the first whose loss or gradient is no number: it
        left the weights as they were. With a loss scale some such steps belong to it; their loss is given as it is."""
        steps, self.steps = self.steps, []
        if not steps:
            return []
        values = torch.stack([value for step in steps for value in (step.loss, step.norm)]).view(-1, 2).tolist()
        for step, (loss, norm) in zip(steps, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)) and (scale is None or scale.exhausted):
                raise self.not_finite(step)
        return [(step, loss) for step, (loss, _) in zip(steps, values, strict=True)]

    def not_finite(self, step: Step) -> NonFiniteError:
        lines = ", ".join(str(self.lines[row]) for row in step.rows[:8])
        return NonFiniteError(
            f"step {step.number}: the loss or its gradient is not finite; the weights were not touched. "
            f"Rows of this step: lines {lines}{', ...' if len(step.rows) > 8 else ''}. "
            "Try a lower --learning-rate, or --precision fp32"
        )


class LossScale:
    """What a loss is multiplied by so that fp16 gradients do not vanish (Micikevicius et al. 2018, Mixed Precision
    Training): halved when one overflows, and that step is left out; doubled after 2,000 steps that did not."""

    def __init__(self, device: torch.device, state: tuple[float, int] | None) -> None:
        scale, steps = state or (START, 0)
        self.value = torch.tensor(scale, device=device)
        self.steps = torch.tensor(steps, dtype=torch.int32, device=device)

    def update(self, overflowed: Tensor) -> None:
        torch._amp_update_scale_(self.value, self.steps, overflowed.float(), GROWTH, BACKOFF, INTERVAL)

    @property
    def exhausted(self) -> bool:
        """No scale helps: the numbers themselves are not finite."""
        return float(self.value) < 1

    def state(self) -> tuple[float, int]:
        return float(self.value), int(self.steps)
