"""One label per text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from whet.config import Settings
from whet.data.check import Rows, Wishes
from whet.data.read import Table
from whet.data.store import Part, Targets
from whet.evaluate import metrics, of_classes
from whet.evaluate.baselines import TITLES, Absent, Baseline, Parts, frozen, majority, tfidf
from whet.evaluate.budget import Problem
from whet.evaluate.counts import tally
from whet.evaluate.facts import ClassFacts, Metric
from whet.evaluate.intervals import Interval, per_label_intervals, score_intervals
from whet.evaluate.paired import Comparison, compare
from whet.models.heads import Output
from whet.models.temperature import divide_outputs
from whet.tasks.material import Found, Material, Tested
from whet.tasks.task import Task


@dataclass(frozen=True)
class Classification(Task):
    """`weights` holds the weight of each label in the loss (1.0 each when not balanced)."""

    name: ClassVar[str] = "classification"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("accuracy", title="Accuracy"),
        "macro_f1": Metric("macro-F1", title="Macro-F1"),
        "mcc": Metric("MCC", percent=False),
        "log_loss": Metric("log-loss", lower_is_better=True, percent=False, title="Log-loss"),
    }
    loss_metric: ClassVar[str] = "log_loss"
    options: ClassVar[frozenset[str]] = frozenset({"class_weight", "label_smoothing", "clean_labels", "calibrate"})

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    label_smoothing: float = 0.0
    metric: str = "accuracy"

    @classmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        """What rows are of where no other task is surer."""
        return 0.1

    @classmethod
    def of(cls, train: Rows, labels: tuple[str, ...], settings: Settings) -> Self:
        """Balanced weights are rows / (labels * rows of the label)."""
        counts = Counter(train.labels)
        balanced = settings.class_weight == "balanced"
        weights = tuple(len(train) / (len(labels) * counts[label]) if balanced else 1.0 for label in labels)
        return cls(labels, weights, settings.label_smoothing, cls.chosen_by(settings))

    @classmethod
    def restored(cls, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        return cls(labels, (1.0,) * len(labels))

    @property
    def output(self) -> Output:
        return Output(self.labels)

    def class_weights(self) -> tuple[float, ...] | None:
        return self.weights

    def targets(self, rows: Rows) -> np.ndarray:
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.array([numbers[label] for label in rows.labels], dtype=np.int64)

    def count(self, targets: Targets) -> float:
        """The sum of the rows' weights."""
        return float(np.asarray(self.weights)[np.asarray(targets)].sum())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of the weighted cross-entropy in nats; rows x labels, rows."""
        weight = None
        if any(value != 1.0 for value in self.weights):
            weight = torch.tensor(self.weights, dtype=outputs.dtype, device=outputs.device)
        return nn.functional.cross_entropy(
            outputs, targets, weight=weight, reduction="sum", label_smoothing=self.label_smoothing
        )

    def apart(self, outputs: Tensor, base: Tensor) -> Tensor:
        """The divergence of Kullback and Leibler, in nats."""
        own, other = outputs.log_softmax(1), base.log_softmax(1)
        return nn.functional.kl_div(own, other, log_target=True, reduction="sum")

    def decode(self, outputs: Targets, part: Part) -> np.ndarray:
        """Probabilities, N x labels."""
        return softmax(np.asarray(outputs))

    def measure(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        return metrics.classification(truth, predicted)

    def said(self, predicted: np.ndarray) -> list[dict[str, Any]]:
        best = predicted.argmax(1)
        return [
            {"prediction": self.labels[number], "probability": float(row[number])}
            for number, row in zip(best.tolist(), predicted, strict=True)
        ]

    def probabilities(self, predicted: np.ndarray) -> np.ndarray:
        return predicted

    def finish(
        self, model: nn.Module, outputs: Callable[[], Targets], valid: Part, settings: Settings
    ) -> tuple[Self, dict[str, Any]]:
        """Where that is asked for, a temperature fitted on the validation rows, put into the model's last layer."""
        if not settings.calibrate:
            return self, {}
        from whet.evaluate.calibration import fit_temperature  # slow to import

        temperature = fit_temperature(np.asarray(outputs()), np.asarray(valid.targets))
        divide_outputs(model, self.outputs, temperature)
        return self, {"temperature": temperature}

    def intervals(self, truth: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, Interval]:
        return score_intervals(predicted, truth, seed=seed).scores

    def compare(self, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, seed: int) -> Comparison:
        return compare(self.metric, ours, theirs, truth, seed=seed)

    def baselines(self, material: Material) -> Found:
        """The commonest label; words; the frozen model."""
        features, texts = material.features, material.rows
        problem = self.problem(material)
        words = Parts(texts.train.texts, texts.valid.texts, texts.test.texts)
        found: Found = [majority(problem, len(texts.test)), tfidf(problem, words, features.budget.share(0.4))]
        if features.states is None:
            return [*found, Absent("frozen", TITLES["frozen"], features.why)]
        last = frozen(features.problem(problem), features.vectors(), features.budget)
        return [*found, features.accounted(last)]

    def problem(self, material: Material) -> Problem:
        return Problem(
            train=material.truth.train,
            valid=material.truth.valid,
            classes=self.outputs,
            score=lambda probabilities, targets: material.score(targets, probabilities),
            class_weight=material.settings.class_weight,
            seed=material.settings.seed,
        )

    def chosen(self, baseline: Baseline) -> dict[str, Any]:
        settings = baseline.settings
        return {"label": self.labels[int(settings["class"])]} if "class" in settings else dict(settings)

    def details(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        best = predicted.argmax(1)
        return {
            "per_label": metrics.per_label(truth, best, self.labels),
            "confusion": metrics.confusion(truth, best, len(self.labels)),
        }

    def panels(self, tested: Tested) -> dict[str, Any]:
        truth, predicted, temperature = tested.truth, tested.predicted, tested.learnt.get("temperature")
        best = predicted.argmax(1)
        details, known = self.details(truth, predicted), per_label_intervals(tally(truth, best, len(self.labels)))
        before = None if temperature is None else softmax(np.asarray(tested.outputs) * temperature)
        return {
            "calibration": of_classes.calibration(predicted, before, truth, temperature),
            "per_label": of_classes.per_label(details["per_label"], known, truth, best, self.labels),
            "confusion": details["confusion"],
            "mistakes": of_classes.went_wrong(truth, predicted, self.labels, tested.rows.lines),
        }

    def facts(self, scores: Mapping[str, float], panels: Mapping[str, Any]) -> dict[str, Any]:
        names = ("label", "support", "predicted", "recall", "f1")
        return {
            "classes": tuple(ClassFacts(*(row[name] for name in names)) for row in panels["per_label"]),
            "accuracy": scores["accuracy"],
            "macro_f1": scores["macro_f1"],
            "calibration_error": panels["calibration"]["ece"],
        }


def softmax(outputs: np.ndarray) -> np.ndarray:
    """Outputs to probabilities, N x labels."""
    if not len(outputs):
        return outputs
    shifted = np.exp(outputs - outputs.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))
