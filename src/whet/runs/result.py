"""A finished run: its figures, and predictions with its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from whet.config import TOKENS_AT_ONCE
from whet.data.check import Findings, Rows, as_text, check, find_columns
from whet.data.read import read
from whet.data.store import tokenize
from whet.engine.forward import Forward
from whet.engine.precision import processes
from whet.errors import DataError, RunError, did_you_mean
from whet.models.given import GivenModule, tuned
from whet.models.load import load_result, load_tokenizer
from whet.models.reference import ModelFolder
from whet.report.terminal import summary
from whet.runs.assemble import use_attention_for
from whet.runs.folder import Folder
from whet.tasks.classification import Classification

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, in order."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


class Run:
    """A finished run in its folder. Print it for its table; predict with it; `metrics` holds all its figures."""

    def __init__(self, folder: Folder, given: GivenModule | None = None) -> None:
        self.path = folder.path
        self.given = given
        self.metrics = folder.metrics()
        self.asked = folder.read_json("run.json")
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

    def probabilities(self, texts: Iterable[str]) -> np.ndarray:
        """The probability of each label for each text: texts x labels, fp32, labels in the order of `labels`.

        Raises `DataError` for a single text where a list is meant, and for empty texts.
        """
        if isinstance(texts, str):
            raise DataError("give a list of texts: predict([text])")
        given = list(texts)
        wrong = next((n for n, text in enumerate(given) if not isinstance(text, str) or not text.strip()), None)
        if wrong is not None:
            raise DataError(f"text {wrong + 1} of {len(given)} is empty or no text")
        outputs, _ = self._outputs(given)
        shifted = np.exp(outputs - outputs.max(1, keepdims=True)) if len(given) else outputs
        return np.asarray(shifted / shifted.sum(1, keepdims=True)) if len(given) else outputs

    def predict(self, texts: Iterable[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[int(best)] for best in self.probabilities(texts).argmax(1)]

    def rows_to_predict(self, data: Any, text: str | None = None) -> list[str]:
        """The texts of a table, every row in its order (an empty text stays, and is predicted as such: not at all).

        The column is the one given, else the one the run was trained on, else recognised.
        """
        table = read(data)
        column = text or self.asked["settings"]["text"]
        if text is None and column not in table.columns:
            column = find_columns(table, None, None, labelled=False)[0].text
        return [as_text(value) for value in table.column(column, "text")]

    def lines_to_predict(self, lines: Iterable[str]) -> Iterator[str]:
        """One text a line, as they come."""
        return (line.rstrip("\r\n") for line in lines)

    def predictions(self, texts: Iterable[str]) -> Iterator[tuple[str, float, str]]:
        """(label, probability, text) of each text, in order, a few hundred at a time. A text without anything in
        it gets the label "" and probability 0."""
        for some in batched(texts, 256):
            real = [text for text in some if text.strip()]
            rows = iter(self.probabilities(real))
            for text in some:
                row = next(rows) if text.strip() else None
                yield ("", 0.0, text) if row is None else (self.labels[int(row.argmax())], float(row.max()), text)

    def _outputs(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Outputs in fp32, and how many texts were cut."""
        if self._model is None:
            self._model = self._load()
        model, tokenizer, labels = self._model
        rows = Rows("texts", tuple(texts), (), tuple(range(1, len(texts) + 1)))
        store = tokenize(rows, tokenizer, int(self.asked["model"]["max_length"]))
        if not len(store):
            return np.zeros((0, len(labels)), np.float32), 0
        use_attention_for(model, int(store.lengths.max()))
        settings = self.asked["settings"]
        return Forward(model, processes(), "fp32", settings["token_budget"] or TOKENS_AT_ONCE).all(
            store
        ), store.truncated

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
        """Scores on other labelled rows, read like the training rows: `rows`, `dropped`, `truncated`, `scores`,
        `per_label`. Raises `DataError` for a label that the model does not know."""
        table, findings, settings = read(data), Findings(), self.asked["settings"]
        columns, _ = find_columns(table, settings["text"], settings["label"])
        rows = check(table, columns, findings, clean_labels=settings["clean_labels"], known=self.labels)
        for line, label in zip(rows.lines, rows.labels, strict=True):
            if label not in self.labels:
                raise DataError(
                    f"unknown label {label!r} ({rows.name}, row {line}); {did_you_mean(label, self.labels)}"
                )
        task = Classification(self.labels, (1.0,) * len(self.labels))
        outputs, cut = self._outputs(list(rows.texts))
        targets = task.targets(rows)
        return {
            "rows": len(rows),
            "dropped": dict(findings.dropped),
            "truncated": cut,
            "scores": task.score(outputs, targets),
            **task.details(outputs, targets),
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
