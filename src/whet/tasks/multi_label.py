"""Any number of labels per text, none included: a yes or no for each label.

A prediction holds two numbers for each row and label: the probability, and the threshold from which the label is given
(N rows x L labels x 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from whet.config import Settings
from whet.data.check import Rows, Wishes
from whet.data.label_sets import columns_named, form_of
from whet.data.read import Table
from whet.data.reading_sets import LabelSets, find_texts, found_form
from whet.data.store import Part, Targets
from whet.errors import DataError, PathError
from whet.evaluate import label_sets, one_each, thresholds
from whet.evaluate.baselines import TITLES, Absent, Baseline, Parts
from whet.evaluate.budget import Problem
from whet.evaluate.facts import ClassFacts, Metric
from whet.evaluate.intervals import Interval
from whet.evaluate.paired import Comparison
from whet.evaluate.paired_sets import Predicted, compare_sets
from whet.evaluate.thresholds import Thresholds
from whet.models.heads import Output
from whet.models.temperature import linear_end
from whet.tasks.material import Found, Material, Tested
from whet.tasks.task import Task, Usage

MOST = 25
"""Mistakes of each kind that are kept."""

LINES = """\
given = logits.sigmoid() >= torch.tensor({from_here})
labels = [[names[number] for number in row.nonzero().flatten().tolist()] for row in given]"""


@dataclass(frozen=True)
class MultiLabel(LabelSets, Task):
    """`weights` are those of a yes and of a no of each label in the loss (1.0 each when not balanced), `shares` what
    part of the training rows has it, above 0 and below 1. `chosen_thresholds` are None until training is over: until
    then rows are scored at the best one for themselves."""

    name: ClassVar[str] = "multi-label"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "micro_f1": Metric("micro-F1", title="Micro-F1"),
        "macro_f1": Metric("macro-F1", title="Macro-F1"),
        "exact_match": Metric("exact match", title="Exact match"),
        "log_loss": Metric("log-loss", lower_is_better=True, percent=False, title="Log-loss"),
    }
    loss_metric: ClassVar[str] = "log_loss"
    options: ClassVar[frozenset[str]] = frozenset({"class_weight", "label_smoothing", "clean_labels"})

    nothing: ClassVar[Mapping[str, Any]] = {"prediction": []}
    usage: ClassVar[Usage] = Usage(
        title="A text classifier that gives any number of labels",
        note="Each label has a probability of its own; they do not sum to 1. A label is given from its threshold on, "
        "which was chosen on the validation rows; a text may get none.",
    )

    labels: tuple[str, ...]
    weights: tuple[tuple[float, float], ...]
    shares: tuple[float, ...]
    label_smoothing: float = 0.0
    metric: str = "micro_f1"
    chosen_thresholds: Thresholds | None = None

    @classmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        """Sure where the column holds lists, or labels joined by a separator, or where several hold 0 and 1."""
        try:
            text = table.column(find_texts(table, wishes.text), "text")
        except (DataError, PathError):
            return 0.0
        if not isinstance(text[0], str):
            return 0.0
        if wishes.label is None:
            found = found_form(table, wishes.text)
        elif wishes.label in table.columns:
            found = form_of(table, wishes.label)
        else:
            found = columns_named(table, wishes.label)
        return 0.0 if found is None else 0.8

    @classmethod
    def of(cls, train: Rows, labels: tuple[str, ...], settings: Settings) -> Self:
        """Balanced weights are rows / (2 * rows that have the label) for a yes, and the same of the others for a no: so
        each label weighs as much as any other, and its yes as much as its no."""
        weights, rows = [(1.0, 1.0)] * len(labels), len(train)
        counts = [sum(label in row for row in train.labels) for label in labels]
        if settings.class_weight == "balanced":
            weights = [(rows / (2 * count), rows / (2 * (rows - count) or rows)) for count in counts]
        shares = tuple((count + 0.5) / (rows + 1) for count in counts)
        return cls(labels, tuple(weights), shares, settings.label_smoothing, cls.chosen_by(settings))

    @classmethod
    def restored(cls, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        kept = Thresholds(tuple(state["thresholds"]), tuple(state["common"])) if state else None
        return cls(labels, ((1.0, 1.0),) * len(labels), (0.5,) * len(labels), chosen_thresholds=kept)

    def state(self) -> dict[str, Any]:
        kept = self.chosen_thresholds
        return {} if kept is None else {"thresholds": list(kept.values), "common": list(kept.common)}

    @property
    def output(self) -> Output:
        return Output(self.labels, problem_type="multi_label_classification")

    def fitted_to(self, model: nn.Module, kept: bool) -> Self:
        """A new head starts from each label's share of the training rows: its biases are their log odds (Lin et al.
        2017, Focal loss for dense object detection, section 4.1). From zero, where every label is as likely as not, it
        first has to learn that most rows lack most labels, and a bias moves by no more than the rate in a step."""
        layer = linear_end(model, self.outputs)
        if not kept and layer is not None and layer.bias is not None:
            odds = [p * yes / ((1 - p) * no) for p, (yes, no) in zip(self.shares, self.weights, strict=True)]
            with torch.no_grad():
                layer.bias.copy_(torch.tensor(odds).log())
        return self

    # What the engine asks

    def targets(self, rows: Rows) -> np.ndarray:
        """Rows x labels, 1 where a row has a label."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        found = np.zeros((len(rows), len(self.labels)), np.int64)
        for row, labels in enumerate(rows.labels):
            found[row, [numbers[label] for label in labels]] = 1
        return found

    def count(self, targets: Targets) -> float:
        """The sum of the weights of all yes and no; without weights, rows x labels. So the loss is a mean per decision,
        as in torch, and does not grow with the number of labels."""
        truth, (yes, no) = np.asarray(targets), np.array(self.weights).T
        return float((truth * yes + (1 - truth) * no).sum())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows and labels of the weighted binary cross-entropy in nats; rows x labels each."""
        yes, no = torch.tensor(self.weights, dtype=outputs.dtype, device=outputs.device).T
        truth = targets.to(outputs.dtype)
        weight = truth * yes + (1 - truth) * no
        spread = truth * (1 - self.label_smoothing) + self.label_smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(outputs, spread, weight=weight, reduction="sum")

    def apart(self, outputs: Tensor, base: Tensor) -> Tensor:
        """The divergence of Kullback and Leibler of each decision, in nats, summed."""
        log = nn.functional.logsigmoid
        yes = base.sigmoid() * (log(base) - log(outputs))
        return (yes + (-base).sigmoid() * (log(-base) - log(-outputs))).sum()

    # From outputs to what is said of them

    def decode(self, outputs: Targets, part: Part) -> np.ndarray:
        found = sigmoid(np.asarray(outputs))
        truth = np.asarray(part.targets)
        if self.chosen_thresholds is None and len(truth):
            return self.decided(found, self.thresholds_for(truth, found))
        return self.decided(found, self.by())

    def thresholds_for(self, truth: np.ndarray, probabilities: np.ndarray) -> Thresholds:
        """Those that validation rows say are best: one for all, unless macro-F1 is what counts."""
        return thresholds.chosen(truth, probabilities, per_label=self.metric == "macro_f1")

    @staticmethod
    def decided(probabilities: np.ndarray, by: Thresholds) -> np.ndarray:
        """Probabilities and thresholds side by side, rows x labels x 2."""
        return np.stack([probabilities, np.broadcast_to(by.values, probabilities.shape)], axis=-1)

    def measure(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        return label_sets.scores(truth, given(predicted), predicted[..., 0])

    def blank(self) -> dict[str, Any]:
        return {**self.nothing, **{f"probability of {label}": 0.0 for label in self.labels}}

    @staticmethod
    def cell(column: str, value: Any, digits: int) -> Any:
        """Several labels are one text, as they may be read, unless one of them has the separator in it."""
        if isinstance(value, list) and not any(";" in label for label in value):
            return ";".join(value)
        return Task.cell(column, value, digits)

    def said(self, predicted: np.ndarray) -> list[dict[str, Any]]:
        """The labels that each row is given, and the probability of every label."""
        return [
            {
                "prediction": [label for label, yes in zip(self.labels, was, strict=True) if yes],
                **{f"probability of {label}": float(one) for label, one in zip(self.labels, row[:, 0], strict=True)},
            }
            for was, row in zip(given(predicted), predicted, strict=True)
        ]

    def said_in_truth(self, rows: Rows) -> list[Any]:
        return [list(labels) for labels in rows.labels]

    def probabilities(self, predicted: np.ndarray) -> np.ndarray:
        return predicted[..., 0]

    def finish(
        self, model: nn.Module, outputs: Callable[[], Targets], valid: Part, settings: Settings
    ) -> tuple[Self, dict[str, Any]]:
        """The thresholds, chosen on the validation rows, and the curves that they were chosen from."""
        found, truth = sigmoid(np.asarray(outputs())), np.asarray(valid.targets)
        best = self.thresholds_for(truth, found)
        every: dict[str, Any] = {"label": None, "threshold": thresholds.best(truth.ravel(), found.ravel())}
        curves: list[dict[str, Any]] = [every | thresholds.curve(truth.ravel(), found.ravel())]
        for number, label in enumerate(self.labels):
            own: dict[str, Any] = {"label": label, "threshold": best.values[number], "common": best.common[number]}
            curves.append(own | thresholds.curve(truth[:, number], found[:, number]))
        return replace(self, chosen_thresholds=best), {"curves": curves}

    def used(self, tokenizer: Any) -> Usage:
        values = list(self.by().values)
        from_here = values[0] if len(set(values)) == 1 else values
        return replace(self.usage, lines=LINES.format(from_here=from_here))

    def by(self) -> Thresholds:
        """The thresholds chosen; 0.5 for all while there are none."""
        return self.chosen_thresholds or Thresholds((thresholds.HALF,) * len(self.labels), (True,) * len(self.labels))

    # What is made of the test rows

    def intervals(self, truth: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, Interval]:
        return label_sets.score_intervals(truth, given(predicted), predicted[..., 0], seed=seed)

    def compare(self, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, seed: int) -> Comparison:
        one, other = (Predicted(given(side), side[..., 0]) for side in (ours, theirs))
        return compare_sets(self.metric, one, other, truth, seed=seed)

    def baselines(self, material: Material) -> Found:
        """Each label's share of the training rows; words; the frozen model; the last two one label against the rest.
        Their thresholds are chosen like the model's own."""
        features, texts = material.features, material.rows
        problem = Problem(
            train=material.truth.train,
            valid=material.truth.valid,
            classes=self.outputs,
            score=lambda found, truth: material.score(truth, self.decided(found, self.thresholds_for(truth, found))),
            class_weight=material.settings.class_weight,
            seed=material.settings.seed,
            strata=one_each.strata(material.truth.train),
        )
        words = Parts(texts.train.texts, texts.valid.texts, texts.test.texts)
        found: Found = [
            one_each.shares(problem, len(texts.test)),
            one_each.tfidf(problem, words, features.budget.share(0.4)),
        ]
        if features.states is None:
            found.append(Absent("frozen", TITLES["frozen"], features.why))
        else:
            if features.rows is not None:
                train = problem.train[features.rows]
                problem = replace(problem, train=train, strata=one_each.strata(train))
            last = one_each.frozen(problem, features.vectors(), features.budget)
            if isinstance(last, Baseline):
                last = replace(last, cuts=(*features.cuts, *last.cuts), seconds=last.seconds + features.seconds)
            found.append(last)
        return [self.with_thresholds(one, problem.valid) if isinstance(one, Baseline) else one for one in found]

    def with_thresholds(self, one: Baseline, truth: np.ndarray) -> Baseline:
        by = self.thresholds_for(truth, one.valid)
        return replace(one, valid=self.decided(one.valid, by), test=self.decided(one.test, by))

    def details(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        return {"per_label": label_sets.per_label(truth, given(predicted), self.labels)}

    def panels(self, tested: Tested) -> dict[str, Any]:
        truth, predicted = tested.truth, tested.predicted
        was = given(predicted)
        wrong = label_sets.slips(truth, was, predicted[..., 0], self.labels, MOST)
        return {
            **self.details(truth, predicted),
            "thresholds": tested.learnt["curves"],
            "together": label_sets.together(truth, was),
            "slips": [
                {
                    "row": tested.rows.lines[one.index],
                    "label": one.label,
                    "missed": one.missed,
                    "probability": one.probability,
                }
                for one in wrong
            ],
        }

    def facts(self, scores: Mapping[str, float], panels: Mapping[str, Any]) -> dict[str, Any]:
        names = ("label", "support", "predicted", "recall", "f1")
        return {"classes": tuple(ClassFacts(*(row[name] for name in names)) for row in panels["per_label"])}


def given(predicted: np.ndarray) -> np.ndarray:
    """Which labels the rows get: rows x labels, true from the threshold on."""
    found: np.ndarray = predicted[..., 0] >= predicted[..., 1]
    return found


def sigmoid(outputs: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    made: np.ndarray = expit(outputs.astype(float))
    return made
