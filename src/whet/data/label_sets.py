"""Rows with any number of labels each: how their labels are written, and reading them.

Labels stand in one column, as lists (`["water", "noise"]`, also written as text) or joined by a separator
(`water;noise`), or in several columns of 0 and 1, one per label. A row with none of the labels is a row like any
other: an empty list, an empty text, zeros. A row without a value (None, not-a-number) says nothing and is left out.
A delimited file cannot write the two differently: there an empty cell means none of the labels.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from whet.data.read import Table
from whet.errors import DataError

Labels = tuple[str, ...]
"""The labels of a row, each once, in order of the alphabet; () is none of them."""

SEPARATORS = (";", "|", ",")
NOTABLE = 0.05
"""A separator joins labels if at least this share of the cells that hold anything hold it."""
AGAIN = 0.7
"""Of the parts that it makes, at least so many occur in another cell, too: labels recur, parts of a name do not."""
YES, NO = ("1", "true"), ("0", "false")


@dataclass(frozen=True)
class Form:
    """How labels are written: in one column, joined by `separator` or, without one, as lists; or in several columns
    of 0 and 1, each named like its label."""

    columns: tuple[str, ...]
    separator: str | None = None

    @property
    def indicators(self) -> bool:
        return len(self.columns) > 1

    @property
    def words(self) -> str:
        """For a note to the reader."""
        if self.indicators:
            return f"{len(self.columns)} columns of 0 and 1, one per label: {_some(self.columns)}"
        how = "as lists" if self.separator is None else f"joined by {self.separator!r}"
        return f"label column: {self.columns[0]}, any number of labels {how}"


def form_of(table: Table, name: str) -> Form | None:
    """How a column writes any number of labels; None where it seems to hold one label a row.

    Lists of texts or numbers do. Joined texts do where the separator is notable and its parts recur in other cells. A
    comma, which also stands inside names, joins only if every part is a cell of its own somewhere.
    """
    values = [value for value in table.columns[name] if not _missing(value)]
    listed = [found for value in values if (found := _listed(value)) is not None]
    if listed:
        first = next((found[0] for found in listed if found), "")
        return Form((name,)) if isinstance(first, str | int | float) else None
    cells = [value for value in values if isinstance(value, str)]
    return next((Form((name,), mark) for mark in SEPARATORS if _joins(cells, mark)), None)


def form_asked(table: Table, name: str, known: Collection[str] = ()) -> Form:
    """How a column writes its labels when it is sure that they may be several. Where the labels are `known`, since
    these rows are not the training rows, as that form which makes most of them; else as recognised, or by the
    separator that occurs most."""
    cells = [value for value in table.columns[name] if not _missing(value)]
    if any(_listed(value) is not None for value in cells):
        return Form((name,))
    texts = [str(value) for value in cells]
    if known:
        return max((Form((name,), mark) for mark in (None, *SEPARATORS)), key=lambda form: _share(texts, form, known))
    counts = {mark: sum(mark in text for text in texts) for mark in SEPARATORS}
    return form_of(table, name) or Form((name,), max(counts, key=lambda mark: counts[mark]))


def _share(texts: Sequence[str], form: Form, known: Collection[str]) -> float:
    """Of the labels that a form makes of these texts, how many are known."""
    parts = [part.strip() for text in texts for part in (text.split(form.separator) if form.separator else [text])]
    made = [part for part in parts if part]
    return sum(part in known for part in made) / max(len(made), 1)


def indicators(table: Table, without: Iterable[str] = ()) -> Form | None:
    """The columns of 0 and 1 as labels, where there are two or more; each must hold a 1 somewhere, or a 0."""
    left_out = set(without)
    names = [name for name in table.columns if name not in left_out and _is_indicator(table.columns[name])]
    return Form(tuple(names)) if len(names) > 1 else None


def columns_named(table: Table, text: str) -> Form | None:
    """The columns that a text names, divided by commas; None where it does not name two or more of them."""
    names = tuple(name.strip() for name in text.split(","))
    return Form(names) if len(names) > 1 and all(name in table.columns for name in names) else None


def read_labels(table: Table, form: Form) -> list[Labels | None]:
    """The labels of each row, None for one without a value. Raises `DataError` with the row where a value is none."""
    if form.indicators:
        columns = [table.columns[name] for name in form.columns]
        return [
            _indicated(table, line, form.columns, cells)
            for line, cells in zip(table.lines, zip(*columns, strict=True), strict=True)
        ]
    values = table.columns[form.columns[0]]
    return [_read(table, line, form, value) for line, value in zip(table.lines, values, strict=True)]


def name_of(value: Any) -> str:
    """A label as text: whole numbers without a decimal part, no spaces around it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _read(table: Table, line: int, form: Form, value: Any) -> Labels | None:
    if _missing(value):
        return None
    listed = _listed(value)
    if listed is None:
        listed = [value] if form.separator is None else str(value).split(form.separator)
    wrong = next((one for one in listed if not isinstance(one, str | int | float)), None)
    if wrong is not None:
        raise DataError(
            f"{table.name}, row {line}: {wrong!r} in {form.columns[0]!r} is no label; labels are texts or numbers, "
            'for example ["water", "noise"]'
        )
    return tuple(sorted({name for one in listed if (name := name_of(one))}))


def _indicated(table: Table, line: int, names: Labels, cells: Sequence[Any]) -> Labels | None:
    shown = ["" if _missing(cell) else name_of(cell).casefold() for cell in cells]
    if "" in shown:
        return None
    wrong = next((place for place, cell in enumerate(shown) if cell not in YES + NO), None)
    if wrong is not None:
        raise DataError(
            f"{table.name}, row {line}: {cells[wrong]!r} in column {names[wrong]!r}; "
            "a column per label holds 1 where a row has the label and 0 where it has not"
        )
    return tuple(sorted(name for name, cell in zip(names, shown, strict=True) if cell in YES))


def _listed(value: Any) -> list[Any] | None:
    """The items of a list, also of one that stands as text; None for anything else."""
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1:
        return list(value.tolist())
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError):
                continue
            if isinstance(found, list):
                return found
    return None


def _joins(cells: Sequence[str], separator: str) -> bool:
    """Whether the cells seem to be labels joined by this separator."""
    filled = Counter(cell.strip() for cell in cells if cell.strip())
    parts = {cell: {part.strip() for part in cell.split(separator)} - {""} for cell in filled}
    several = [cell for cell in filled if len(parts[cell]) > 1]
    if not several or sum(filled[cell] for cell in several) < NOTABLE * filled.total():
        return False
    if separator == ",":
        return all(part in filled for cell in several for part in parts[cell])
    places = Counter(part for cell in filled for part in parts[cell])
    made = [part for cell in several for part in parts[cell]]
    return sum(places[part] > 1 for part in made) >= AGAIN * len(made)


def _is_indicator(values: Sequence[Any]) -> bool:
    shown = {name_of(value).casefold() for value in values if not _missing(value)} - {""}
    return bool(shown) and shown <= {*YES, *NO}


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def about_labels(parts: dict[str, Sequence[Labels]], labels: Labels) -> list[str]:
    """What a reader should know of the labels: how many a row has, which are rare, on every row of a part or on none.

    `parts` holds the labels of the rows of `train`, `valid` and `test`; empty parts say nothing.
    """
    every = [row for rows in parts.values() for row in rows]
    mean, most = sum(map(len, every)) / len(every), max(map(len, every))
    none = sum(not row for row in every)
    notes = [f"{mean:.2f} labels a row on average, {most} at most; {none} of {len(every)} rows have none"]
    train = Counter(label for row in parts["train"] for label in row)
    few = sorted((label for label in labels if train[label] < 5), key=lambda label: (train[label], label))
    if few:
        shown = _some([f"{label} ({train[label]})" for label in few], 5)
        notes.append(f"{len(few)} labels have fewer than 5 training rows: {shown}")
    for part, rows in parts.items():
        counts = Counter(label for row in rows for label in row)
        for where, number in (("every", len(rows)), ("no", 0)):
            found = [label for label in labels if counts[label] == number]
            if rows and found:
                word = "label is" if len(found) == 1 else "labels are"
                notes.append(f"{len(found)} {word} on {where} row of {part} ({len(rows)} rows): {_some(found, 5)}")
    return notes
