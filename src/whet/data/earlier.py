"""Rows of a person's own earlier task, read to see what is still known of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from whet.data.check import Columns, Findings, Rows, check, find_columns
from whet.data.read import read
from whet.errors import DataError

MOST = 2000
"""Of more rows, so many are drawn: each of them passes the body twice."""
FEWEST = 20


@dataclass(frozen=True)
class Earlier:
    """The rows that are used, of `found` that could be, and their labels in alphabetical order."""

    rows: Rows
    found: int
    labels: tuple[str, ...]


def read_earlier(
    source: str, columns: Columns, findings: Findings, *, clean_labels: bool = False, seed: int = 0
) -> Earlier:
    """Read and check a file like the rows to learn from. Its columns are `columns` where it has them, else recognised.

    What was guessed and left out comes as notes into `findings`, with the file's name. Raises `DataError` and
    `PathError` where nothing can be learnt from it.
    """
    table, own = read(source), Findings()
    names = (columns.text, columns.label)
    known, notes = find_columns(table, *(name if name in table.columns else None for name in names))
    rows = check(table, known, own, clean_labels=clean_labels)
    count = len(set(rows.labels))
    if count < 2 or len(rows) < FEWEST:
        labels = "1 label" if count == 1 else f"{count} labels"
        raise DataError(
            f"{source}: {len(rows)} rows with {labels} tell nothing of an earlier task; "
            f"--remember needs {FEWEST} rows or more with two or more labels"
        )
    drawn = rows
    if len(rows) > MOST:
        drawn = rows.take(sorted(random.Random(f"whet earlier {seed}").sample(range(len(rows)), MOST)))
    left_out = [f"{count} rows left out: {reason}" for reason, count in own.dropped.items()]
    fewer = [f"{len(drawn):,} of {len(rows):,} rows are used (seed {seed})"] if len(drawn) < len(rows) else []
    findings.notes += [f"to remember, {Path(source).name}: {note}" for note in (*notes, *own.notes, *left_out, *fewer)]
    return Earlier(drawn, len(rows), tuple(sorted(set(drawn.labels))))
