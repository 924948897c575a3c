"""One label per text: the loss, the decoded prediction and the metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whet.data.check import Rows
from whet.evaluate import metrics


@dataclass(frozen=True)
class Classification:
    """`weights` holds the weight of each label in the loss (1.0 each when not balanced)."""

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    label_smoothing: float = 0.0

    @staticmethod
    def of(train: Rows, labels: tuple[str, ...], class_weight: str, label_smoothing: float) -> Classification:
        """The task for these training rows. Balanced weights are rows / (labels * rows of the label)."""
        counts = Counter(train.labels)
        balanced = class_weight == "balanced"
        weights = tuple(len(train) / (len(labels) * counts[label]) if balanced else 1.0 for label in labels)
        return Classification(labels, weights, label_smoothing)

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def targets(self, rows: Rows) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.array([numbers[label] for label in rows.labels], dtype=np.int64)

    def count(self, targets: np.ndarray) -> float:
        """What the loss of these rows is divided by: the sum of their weights."""
        return float(np.asarray(self.weights)[targets].sum())

    def loss(self, outputs_BC: Tensor, targets_B: Tensor) -> Tensor:
        """Sum over rows of the weighted cross-entropy in nats. B rows, C labels."""
        weight = None
        if any(value != 1.0 for value in self.weights):
            weight = torch.tensor(self.weights, dtype=outputs_BC.dtype, device=outputs_BC.device)
        return nn.functional.cross_entropy(
            outputs_BC, targets_B, weight=weight, reduction="sum", label_smoothing=self.label_smoothing
        )

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs to probabilities, N x labels."""
        shifted = np.exp(outputs - outputs.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """The metrics of a part; `log_loss` is comparable with the training loss where nothing is weighted."""
        return metrics.classification(targets, self.decode(outputs))

    def details(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
        predicted = outputs.argmax(1)
        return {
            "per_label": metrics.per_label(targets, predicted, self.labels),
            "confusion": metrics.confusion(targets, predicted, len(self.labels)),
        }
