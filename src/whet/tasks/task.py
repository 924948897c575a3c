"""What a task is: all in which tasks differ. Engine, runs and report ask these questions, never which task it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from whet.config import Settings
from whet.data.check import Rows, Wishes, as_text, find_columns
from whet.data.read import Table
from whet.data.reading import Labelled
from whet.data.store import Encoder, Part, Targets
from whet.errors import DataError, SettingsError
from whet.evaluate.baselines import Baseline
from whet.evaluate.facts import Metric
from whet.evaluate.intervals import Interval
from whet.evaluate.paired import Comparison
from whet.evaluate.resampling import one_by_one, row_comparison, row_intervals
from whet.models.heads import Output, Per
from whet.tasks.material import Found, Material, Tested


@dataclass(frozen=True)
class Usage:
    """How a saved model is used, in words and lines of Python.

    Without whet: what it is, what a person has at hand, what the tokenizer is called with, the class of transformers,
    whether its outputs are per row or per token, and the lines from `logits` (and `names`, those of the outputs) to
    `result`. `items` is what `predict` takes of what is at hand. For examples: `assign` makes what is at hand, `call`
    shows what whet says of it, `rows` are the same as cells of a table. `note` is what to know of a prediction.
    """

    title: str = "A text classifier"
    given: str = "a list of `texts`"
    inputs: str = "texts"
    native: str = "AutoModelForSequenceClassification"
    per: Per = "row"
    lines: str = "labels = [names[int(best)] for best in logits.argmax(1)]"
    result: str = "labels"
    items: str = "texts"
    assign: str = 'texts = ["a first text", "and another one"]'
    call: str = "print(run.predict(texts))\nprint(run.probabilities(texts).round(2))"
    rows: tuple[tuple[str, ...], ...] = (("a first text",), ("and another one",))
    note: str = "A probability is that of the label predicted. A low one is worth a second look."


class Task(Labelled, ABC):
    """One kind of task, made for the rows of a run.

    The class alone knows how rows are read (docs/decisions/0022-tasks.md); an instance knows the labels, what was
    learnt from the training rows beside weights, and the score that chooses. `metrics` come in the order in which they
    are shown, the main one first; `loss_metric` is the one that is comparable with the training loss. `options` are
    those of Settings that mean something to this task alone or to few. All arrays that truth and predictions are made
    of have the rows of the data first.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]
    loss_metric: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    usage: ClassVar[Usage] = Usage()
    nothing: ClassVar[Mapping[str, Any]] = {"prediction": "", "probability": 0.0}
    """What is said of a row without anything in it."""
    right_or_wrong: ClassVar[bool] = True
    """Whether a prediction is either that of the truth or not, so that rows can be counted by it."""

    labels: tuple[str, ...]
    metric: str

    # How it is recognised, and made

    @classmethod
    @abstractmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        """How sure the columns are of this task, 0 to 1: the task that is surest is taken."""

    @classmethod
    @abstractmethod
    def of(cls, train: Rows, labels: tuple[str, ...], settings: Settings) -> Self:
        """The task for these training rows."""

    @classmethod
    @abstractmethod
    def restored(cls, labels: tuple[str, ...], state: Mapping[str, Any]) -> Self:
        """The task of a finished run, from what `state` said."""

    def state(self) -> dict[str, Any]:
        """What was learnt beside weights, as JSON has it."""
        return {}

    @classmethod
    def chosen_by(cls, settings: Settings) -> str:
        """The metric asked for, else the main one. Raises `SettingsError` for one of another task."""
        asked = settings.metric
        if asked is not None and asked not in cls.metrics:
            raise SettingsError(
                f"metric = {asked}: {cls.name} is measured by {', '.join(cls.metrics)}; choose of these"
            )
        return asked or next(iter(cls.metrics))

    @property
    def measured_by(self) -> Metric:
        return self.metrics[self.metric]

    @property
    @abstractmethod
    def output(self) -> Output:
        """What the head has to give."""

    @property
    def outputs(self) -> int:
        """The width of the head."""
        return len(self.output)

    def covers(self, labels: Sequence[str]) -> bool:
        """Whether rows with these names of outputs are of this very task, so that they can share its head."""
        return set(labels) <= set(self.labels)

    def class_weights(self) -> tuple[float, ...] | None:
        """The weight of each label in the loss, where a row has one label of several; else None: what a search among
        probes needs."""
        return None

    def fitted_to(self, model: nn.Module, kept: bool) -> Self:
        """The task as this model can learn it. `kept`: the head is that of a finished run of the same task; its weights
        may be changed here, so that they suit what is learnt."""
        return self

    # What the engine asks

    @abstractmethod
    def targets(self, rows: Rows) -> Targets:
        """What the rows are learnt towards."""

    def encode(self, rows: Rows, encoder: Encoder) -> Part:
        """Rows as the model reads them, with their targets where they have any."""
        targets = self.targets(rows) if rows.labels else np.zeros(0)
        return Part(encoder.tokens(rows), targets, rows.lines)

    def noticed(self, parts: Mapping[str, Part]) -> list[str]:
        """What is worth knowing of how the model reads the rows of each part."""
        return []

    def count(self, targets: Targets) -> float:
        """What the summed loss of these rows is divided by: their number, or that of their tokens, or their weight."""
        return float(len(targets))

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, summed over the rows (or tokens) of a micro-batch."""

    @abstractmethod
    def apart(self, outputs: Tensor, base: Tensor) -> Tensor:
        """How far outputs lie from those of the pretrained model, summed over rows, 0 if nowhere."""

    def score(self, outputs: Targets, part: Part) -> dict[str, float]:
        """The metrics of a part from its outputs, `loss_metric` among them."""
        assert isinstance(part.targets, np.ndarray)
        return self.measure(part.targets, self.decode(outputs, part))

    # From outputs to what is said of them

    @abstractmethod
    def decode(self, outputs: Targets, part: Part) -> np.ndarray:
        """Predictions, rows of the data first: what `measure` and `said` take."""

    def truth(self, rows: Rows) -> np.ndarray:
        """What the rows say, as `measure` takes it."""
        found = self.targets(rows)
        assert isinstance(found, np.ndarray)
        return found

    @abstractmethod
    def measure(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        """Every metric of predictions, which may be a baseline's."""

    def measure_each(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics of many draws of rows, draws first: what intervals and comparisons are made of."""
        return one_by_one(self.measure)(truth, predicted)

    def better(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """The metric that chooses, turned so that higher is better."""
        return self.measured_by.goodness(self.measure(truth, predicted)[self.metric])

    @abstractmethod
    def said(self, predicted: np.ndarray) -> list[dict[str, Any]]:
        """For each row its `prediction` and what stands beside it, by column; the columns are those of `nothing`."""

    def shown(self, rows: Rows, predicted: np.ndarray) -> list[dict[str, Any]]:
        """`said`, with what can only be told beside the rows themselves."""
        return self.said(predicted)

    def said_in_truth(self, rows: Rows) -> list[Any]:
        """What stands in the column of the truth."""
        return list(rows.labels)

    def probabilities(self, predicted: np.ndarray) -> np.ndarray:
        """Rows x labels. Raises `DataError` where the task has none."""
        raise DataError(f"{self.name} gives no probabilities; use predict")

    def finish(
        self, model: nn.Module, outputs: Callable[[], Targets], valid: Part, settings: Settings
    ) -> tuple[Self, dict[str, Any]]:
        """What is found out after training on the validation rows, and what of the task can be put into the model's own
        weights: the task as it is from then on, and facts for `Tested.learnt`. `outputs` computes those of the
        validation rows."""
        return self, {}

    # What a person hands to predict

    @classmethod
    def items(cls, given: Iterable[Any]) -> Rows:
        """Rows of what is handed to `predict`. Raises `DataError` for what is none."""
        if isinstance(given, str):
            raise DataError("give a list of texts: predict([text])")
        texts = list(given)
        wrong = next((n for n, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"text {wrong + 1} of {len(texts)} is empty or no text")
        return Rows("texts", tuple(texts), (), tuple(range(1, len(texts) + 1)))

    @classmethod
    def lines(cls, given: Sequence[str]) -> Rows:
        """Rows of lines of text, as they come from standard input; an empty one is a row too."""
        return Rows("standard input", tuple(given), (), tuple(range(1, len(given) + 1)))

    @classmethod
    def to_predict(cls, table: Table, wishes: Wishes) -> Rows:
        """Every row of a table, in its order, with what it is predicted from. `wishes` are the columns asked for, else
        those that the run was trained on. An empty text stays."""
        first = wishes.text
        if first not in table.columns and wishes.text_b is None:
            first = find_columns(table, None, None, labelled=False)[0].text
        asked = {"text": first, "text_b": wishes.text_b}
        columns = {option: table.column(name, option) for option, name in asked.items() if name is not None}
        sides = {option: tuple(as_text(value) for value in values) for option, values in columns.items()}
        return Rows(table.name, sides["text"], (), tuple(table.lines), sides.get("text_b", ()))

    def used(self, tokenizer: Any) -> Usage:
        """How the saved model is used with its tokenizer."""
        return self.usage

    # What is made of the test rows

    def intervals(self, truth: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, Interval]:
        """The 95 % intervals of the metrics."""
        return row_intervals(self.measure_each, truth, predicted, seed=seed)

    def compare(self, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, seed: int) -> Comparison:
        """Ours against theirs in the metric that chooses."""
        return row_comparison(self.measure_each, self.metric, ours, theirs, truth, seed=seed)

    @classmethod
    def views(cls, rows: Rows) -> tuple[Rows, ...]:
        """The rows whose frozen states the baselines read: those that the model reads, unless told otherwise."""
        return (rows,)

    @abstractmethod
    def baselines(self, material: Material) -> Found:
        """What simple methods reach on the same rows; their predictions are such as `decode` gives."""

    def chosen(self, baseline: Baseline) -> dict[str, Any]:
        """The settings of a baseline, for a reader."""
        return dict(baseline.settings)

    def panels(self, tested: Tested) -> dict[str, Any]:
        """What metrics.json holds of the test rows for this task beside scores; the report shows what it knows of."""
        return {}

    def details(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        """What `whet eval` says beside scores."""
        return {}

    def facts(self, scores: Mapping[str, float], panels: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of `Facts` that only this task can fill, from the test rows."""
        return {}

    def described(self) -> dict[str, Any]:
        """What metrics.json says of the task, so that whoever reads it need not know it: its name, its metrics, the one
        that chose, and the one that is the loss."""
        metrics = {name: asdict(metric) | {"title": metric.shown} for name, metric in self.metrics.items()}
        use = {name: getattr(self.usage, name) for name in ("assign", "call", "result", "rows", "note")}
        described = {"name": self.name, "metrics": metrics, "metric": self.metric, "loss": self.loss_metric}
        return {**described, "labels": list(self.labels), "right_or_wrong": self.right_or_wrong, "use": use}
