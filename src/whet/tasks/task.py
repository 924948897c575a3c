"""What the engine asks of a task. It never asks which task it is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class Task(Protocol):
    """A task owns the loss and the scores; `outputs` is the width of its head."""

    @property
    def outputs(self) -> int: ...

    def count(self, targets: np.ndarray) -> float:
        """What the summed loss of these rows is divided by."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, summed over the rows of a micro-batch."""

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """The metrics of a part, `log_loss` among them."""
