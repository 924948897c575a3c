"""A number per text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from whet.config import Settings
from whet.data.check import Columns, Findings, Rows, Wishes, find_columns
from whet.data.numbers import check_numbers, looks_continuous, looks_like_numbers, number_column
from whet.data.read import Table
from whet.data.store import Part, Targets
from whet.errors import DataError
from whet.evaluate import ridge
from whet.evaluate.baselines import Absent, Baseline, Parts
from whet.evaluate.budget import Problem
from whet.evaluate.facts import Metric
from whet.evaluate.numbers import number_scores, shown
from whet.models.heads import Output
from whet.models.temperature import linear_end, scale_outputs
from whet.tasks.material import Found, Material, Tested
from whet.tasks.task import Task, Usage

RMSE = Metric("RMSE", lower_is_better=True, percent=False)
MAE = Metric("MAE", lower_is_better=True, percent=False)
R2 = Metric("R²", percent=False)
SPEARMAN = Metric("Spearman", percent=False)
PEARSON = Metric("Pearson", percent=False)
SCALED = Metric("scaled MSE", lower_is_better=True, percent=False, title="Scaled MSE")


@dataclass(frozen=True)
class Regression(Task):
    """Targets are learnt as (number - `mean`) / `scale`; both are of the training rows, and go into the last layer of
    the finished model, which then gives numbers in their own unit. `unit` is the deviation of the training rows, by
    which the loss is scaled."""

    name: ClassVar[str] = "regression"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "rmse": RMSE,
        "mae": MAE,
        "r2": R2,
        "spearman": SPEARMAN,
        "scaled_mse": SCALED,
    }
    loss_metric: ClassVar[str] = "scaled_mse"
    usage: ClassVar[Usage] = Usage(
        title="A model of a number",
        lines="numbers = logits[:, 0].tolist()",
        result="numbers",
        call="print(run.predict(texts))",
        note="",
    )
    nothing: ClassVar[Mapping[str, Any]] = {"prediction": ""}
    right_or_wrong: ClassVar[bool] = False

    labels: tuple[str, ...]
    mean: float = 0.0
    scale: float = 1.0
    unit: float = 1.0
    metric: str = "rmse"

    @classmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        """Numbers that cannot be labels: with fractions, or too many different ones."""
        label = wishes.label or number_column(table, (wishes.text,))
        values = table.columns.get(label or "", [])
        return 0.5 if looks_like_numbers(values) and looks_continuous(values) else 0.0

    @classmethod
    def columns(cls, table: Table, wishes: Wishes) -> tuple[Columns, list[str]]:
        if wishes.label is not None:
            return find_columns(table, wishes.text, wishes.label)
        label = number_column(table, (wishes.text,))
        if label is None:
            raise DataError(
                f"{table.name}: no column looks like numbers to learn (columns: {', '.join(table.columns)}). "
                "Choose one with --label NAME."
            )
        found, notes = find_columns(table, wishes.text, label)
        return found, [f"label column: {label}", *notes]

    @classmethod
    def check(
        cls,
        table: Table,
        columns: Columns,
        findings: Findings,
        *,
        clean_labels: bool = False,
        known: Iterable[str] = (),
    ) -> Rows:
        return check_numbers(table, columns, findings)

    @classmethod
    def names(cls, rows: Rows, columns: Columns) -> tuple[str, ...]:
        """One output, named as the column of the numbers."""
        return (str(columns.label),)

    @classmethod
    def strata(cls, rows: Rows) -> Sequence[str]:
        """By fifths of the numbers."""
        return [str(part) for part in ridge.strata(np.array(rows.labels))]

    @classmethod
    def refuse_too_little(cls, rows: Rows, findings: Findings) -> None:
        if len(set(rows.labels)) < 2:
            raise DataError(
                f"{rows.name}: every row has the number {rows.labels[0]:g} (rows {rows.lines[0]} to {rows.lines[-1]}), "
                "so there is nothing to learn. Is --label the right column?"
            )

    @classmethod
    def refuse_unknown(cls, part: Rows, names: tuple[str, ...]) -> None:
        """Any number may come."""

    @classmethod
    def notice(cls, train: Rows, findings: Findings) -> None:
        numbers = np.array(train.labels)
        if not numbers.std():
            raise DataError(f"{train.name}: all training rows have the number {numbers[0]:g}: nothing can be learnt")
        low, high, mean = (f"{value:.4g}" for value in (numbers.min(), numbers.max(), numbers.mean()))
        findings.notes.append(f"numbers from {low} to {high} in the training rows, {mean} on average")

    @classmethod
    def of(cls, train: Rows, labels: tuple[str, ...], settings: Settings) -> Self:
        numbers = np.array(train.labels, dtype=float)
        deviation = float(numbers.std()) or 1.0
        return cls(labels, float(numbers.mean()), deviation, deviation, cls.chosen_by(settings))

    @classmethod
    def restored(cls, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        return cls(labels, **state)

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "scale": self.scale, "unit": self.unit}

    @property
    def output(self) -> Output:
        return Output(self.labels, problem_type="regression")

    def covers(self, labels: Sequence[str]) -> bool:
        """A number is a number, whatever its column is called."""
        return True

    def fitted_to(self, model: nn.Module, kept: bool) -> Self:
        """A last layer without a bias cannot shift its outputs: then numbers are only scaled, by their root mean
        square. A head that was kept gives numbers in their own unit; it is turned into one of scaled numbers."""
        last = linear_end(model, 1)
        if last is None:
            return self
        task = self if last.bias is not None else replace(self, mean=0.0, scale=float(np.hypot(self.mean, self.unit)))
        if kept:
            scale_outputs(last, 1 / task.scale, -task.mean / task.scale)
        return task

    def finish(
        self, model: nn.Module, outputs: Callable[[], Targets], valid: Part, settings: Settings
    ) -> tuple[Self, dict[str, Any]]:
        """Scale and mean go into the last layer, where it is linear; else they stay with the task."""
        last = linear_end(model, 1)
        if last is None:
            return self, {}
        scale_outputs(last, self.scale, self.mean)
        return replace(self, mean=0.0, scale=1.0), {}

    def targets(self, rows: Rows) -> np.ndarray:
        return ((np.array(rows.labels, dtype=float) - self.mean) / self.scale).astype(np.float32)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum over rows of the squared error, rows x 1 and rows."""
        return nn.functional.mse_loss(outputs[:, 0], targets, reduction="sum")

    def apart(self, outputs: Tensor, base: Tensor) -> Tensor:
        """The squared difference."""
        return nn.functional.mse_loss(outputs, base, reduction="sum")

    def decode(self, outputs: Targets, part: Part) -> np.ndarray:
        """Numbers in their own unit, N."""
        return np.asarray(outputs, dtype=float)[:, 0] * self.scale + self.mean

    def truth(self, rows: Rows) -> np.ndarray:
        return np.array(rows.labels, dtype=float)

    def score(self, outputs: Targets, part: Part) -> dict[str, float]:
        truth = np.asarray(part.targets, dtype=float) * self.scale + self.mean
        return self.measure(truth, self.decode(outputs, part))

    def measure(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in self.measure_each(truth, predicted).items()}

    def measure_each(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
        found = number_scores(truth, predicted, self.unit)
        return {name: found[name] for name in self.metrics}

    def said(self, predicted: np.ndarray) -> list[dict[str, Any]]:
        """Numbers to six digits that matter."""
        return [{"prediction": float(f"{value:.6g}")} for value in predicted]

    def baselines(self, material: Material) -> Found:
        """The mean; words; the frozen model."""
        problem, rows = self.problem(material), material.rows
        words = Parts(rows.train.texts, rows.valid.texts, rows.test.texts)
        budget = material.features.budget
        found: Found = [ridge.mean(problem, len(rows.test)), ridge.tfidf(problem, words, budget.share(0.4))]
        return [*found, self.on_frozen(problem, material)]

    def problem(self, material: Material) -> Problem:
        truth = material.truth
        return Problem(
            train=truth.train,
            valid=truth.valid,
            classes=1,
            score=lambda predicted, numbers: material.score(numbers, predicted),
            seed=material.settings.seed,
            strata=ridge.strata(truth.train),
        )

    def on_frozen(self, problem: Problem, material: Material) -> Baseline | Absent:
        features = material.features
        if features.states is None:
            return Absent("frozen", ridge.TITLES["frozen"], features.why)
        found = ridge.on_vectors(
            "frozen", ridge.TITLES["frozen"], features.problem(problem), features.vectors(), features.budget
        )
        return features.accounted(found)

    def panels(self, tested: Tested) -> dict[str, Any]:
        return {"numbers": shown(tested.truth, tested.predicted, tested.rows.lines, self.labels[0], 0)}
