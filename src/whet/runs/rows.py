"""The rows of a run: read as its task reads them, named in its first line, kept where they came from memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whet.config import Resolved, Settings
from whet.data.read import Table, read
from whet.data.split import Dataset, prepare
from whet.runs.folder import Folder
from whet.tasks.registry import recognise


def read_rows(settings: Settings, data: Any) -> Dataset:
    """The rows, read as the task asked for or recognised reads them."""
    names = ("text", "label", "text_b", "valid", "test", "clean_labels", "remember")
    options = {name: getattr(settings, name) for name in names}
    seed, table = settings.seed if settings.split_seed is None else settings.split_seed, read(data)
    return prepare(table, **options, seed=seed, reading=recognise(table, settings))


def first_line(resolved: Resolved, data: Any, dataset: Dataset) -> str:
    """What is about to be done: the verb, the rows, the task, the model."""
    source = str(data) if isinstance(data, str | Path) else dataset.train.name
    said = f"{resolved.verb.replace('_', '-')}  {source}: {dataset.reading.said_of(dataset.columns)}"
    return f"{said}, with {resolved.settings.model}, strategy {resolved.strategy}"


def keep_rows(folder: Folder, table: Table) -> str:
    """Rows that came from memory are kept in the run folder as they came, so that the run can be resumed."""
    path = folder.path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as handle:
        for row in zip(*table.columns.values(), strict=True):
            handle.write(json.dumps(dict(zip(table.columns, row, strict=True)), default=str) + "\n")
    return str(path.resolve())
