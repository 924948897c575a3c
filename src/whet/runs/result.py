"""A finished run: its figures, and predictions with its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from whet.config import TOKENS_AT_ONCE
from whet.data.check import Findings, Rows, Wishes
from whet.data.read import read
from whet.data.store import Encoder, Part, Targets
from whet.engine.forward import Forward
from whet.engine.precision import processes
from whet.errors import DataError, RunError
from whet.models.given import GivenModule, tuned
from whet.models.load import load_result, load_tokenizer, tells_segments
from whet.models.reference import ModelFolder
from whet.report.terminal import summary
from whet.runs.assemble import use_attention_for
from whet.runs.finish import inputs_of
from whet.runs.folder import Folder
from whet.tasks.registry import TASKS

T = TypeVar("T")
AT_ONCE = 256
"""Rows that are predicted at a time."""


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, in order."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def whole_rows(rows: Rows) -> list[bool]:
    """Whether each row has something in each of its texts."""
    return [all(text.strip() for text in texts) for texts in zip(*inputs_of(rows).values(), strict=True)]


class Run:
    """A finished run in its folder. Print it for its table; predict with it; `metrics` holds all its figures."""

    def __init__(self, folder: Folder, given: GivenModule | None = None) -> None:
        self.path = folder.path
        self.given = given
        self.metrics = folder.metrics()
        self.asked = folder.read_json("run.json")
        self.task = TASKS[self.asked["task"]["name"]].restored(self.labels, self.asked["task"]["state"])
        self._model: tuple[Any, Any, tuple[str, ...]] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.asked["data"]["labels"])

    @property
    def report(self) -> Path:
        """Where the report is; written again where it has been removed."""
        from whet.report.html import write_report  # slow to import: it draws

        path = self.path / "report.html"
        return path if path.exists() else write_report(self.path)

    def probabilities(self, texts: Iterable[Any]) -> np.ndarray:
        """The probability of each label for each text: texts x labels, fp32, labels in the order of `labels`.

        Raises `DataError` for a single text where a list is meant, for empty texts, and for a task that has none.
        """
        return self.task.probabilities(self._predicted(self.task.items(texts)))

    def predict(self, texts: Iterable[Any]) -> list[Any]:
        """What is predicted for each text: the most probable label, or whatever the task predicts. Of pairs, each item
        is (text, other text)."""
        rows = self.task.items(texts)
        return [said["prediction"] for said in self.task.shown(rows, self._predicted(rows))]

    def _predicted(self, rows: Rows) -> np.ndarray:
        empty = next((number for number, whole in enumerate(whole_rows(rows)) if not whole), None)
        if empty is not None:
            raise DataError(f"text {empty + 1} of {len(rows)} is empty or no text")
        outputs, part = self._outputs(rows)
        return self.task.decode(outputs, part)

    def rows_to_predict(self, data: Any, text: str | None = None, text_b: str | None = None) -> Rows:
        """The rows of a table, every one in its order (an empty text stays, and is predicted as such: not at all).

        The columns are those given, else those that the run was trained on, else recognised.
        """
        table, own = read(data), self.asked["settings"]
        if text is not None:
            table.column(text, "text")
        return self.task.to_predict(table, Wishes(text or own["text"], None, text_b or own["text_b"]))

    def lines_to_predict(self, lines: Iterable[str]) -> Iterator[Rows]:
        """One text a line, as they come; of pairs, the two divided by a tab. Some hundred at a time."""
        for some in batched((line.rstrip("\r\n") for line in lines), AT_ONCE):
            yield self.task.lines(some)

    def predictions(self, given: Rows | Iterable[Any]) -> Iterator[dict[str, Any]]:
        """For each row (or text), in order, what is predicted and what it is predicted from; a few hundred at a time. A
        row without anything in it is told so: of classes, label "" and probability 0."""
        rows = given if isinstance(given, Rows) else self.task.items(given)
        for start in range(0, len(rows), AT_ONCE):
            some = rows.take(list(range(start, min(start + AT_ONCE, len(rows)))))
            whole = whole_rows(some)
            real = some.take([n for n, one in enumerate(whole) if one])
            outputs, part = self._outputs(real)
            said = iter(self.task.shown(real, self.task.decode(outputs, part)))
            columns = inputs_of(some)
            for number, one in enumerate(whole):
                own = next(said) if one else self.task.blank()
                yield own | {name: values[number] for name, values in columns.items()}

    def _outputs(self, rows: Rows) -> tuple[Targets, Part]:
        """Outputs in fp32, and the rows as the model read them."""
        if self._model is None:
            self._model = self._load()
        model, tokenizer, labels = self._model
        segments = not self.asked["model"]["handed_over"] and tells_segments(model, tokenizer)
        part = self.task.encode(rows, Encoder(tokenizer, int(self.asked["model"]["max_length"]), segments))
        if not len(part.store):
            return np.zeros((0, len(labels)), np.float32), part
        use_attention_for(model, int(part.store.lengths.max()))
        settings = self.asked["settings"]
        budget = settings["token_budget"] or TOKENS_AT_ONCE
        return Forward(model, processes(), "fp32", budget).all(part.store), part

    def _load(self) -> tuple[Any, Any, tuple[str, ...]]:
        folder = self.path / "model"
        if not self.asked["model"]["handed_over"]:
            return load_result(folder)
        if self.given is None:
            raise RunError(
                f"this run tuned a {self.asked['settings']['model']}, handed over in Python; its class is not here. "
                f"Hand it over again: whet.load({str(self.path)!r}, model=module)"
            )
        return tuned(self.given, folder), load_tokenizer(ModelFolder(str(folder), folder, "", None)), self.labels

    def evaluate(self, data: Any) -> dict[str, Any]:
        """Scores on other labelled rows, read like the training rows: `rows`, `dropped`, `truncated`, `scores`, and
        what the task has beside them, of classes `per_label`. Raises `DataError` for a target that the model does not
        know."""
        table, findings, settings = read(data), Findings(), self.asked["settings"]
        columns, _ = self.task.columns(table, Wishes(settings["text"], settings["label"], settings["text_b"]))
        rows = self.task.check(table, columns, findings, clean_labels=settings["clean_labels"], known=self.labels)
        self.task.refuse_unknown(rows, self.labels)
        outputs, part = self._outputs(rows)
        truth, predicted = self.task.truth(rows), self.task.decode(outputs, part)
        return {
            "rows": len(rows),
            "dropped": dict(findings.dropped),
            "truncated": part.store.truncated,
            "scores": self.task.measure(truth, predicted),
            **self.task.details(truth, predicted),
        }

    def __str__(self) -> str:
        return summary(self.metrics, self.asked)

    def __repr__(self) -> str:
        return f"<whet run {self.path}>"


def load(run: str | Path, *, model: Any = None) -> Run:
    """The finished run in a folder. A run of a module handed over in Python predicts with `model`, that module.

    Raises `PathError` where there is no run, `RunError` where it is not finished.
    """
    return Run(Folder.open(run), None if model is None else GivenModule.of(model, None))
