"""Targets that are numbers: what a cell holds, and what has to be mended in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from whet.data.check import LABEL_NAMES, Columns, Findings, Rows, check, missing
from whet.data.read import Table
from whet.errors import DataError

SCORE_NAMES = ("score", "similarity", "similarity_score", "relatedness", "rating", "value", "number", "price", "amount",
               "points", "grade")  # fmt: skip
"""Columns that hold numbers by their names."""
NUMBER = r"[+-]?(?:\d[\d.,' ]*|\.\d+)(?:[eE][+-]?\d+)?"
MOST_NAMED = 3
FRACTION_OF_ROWS = 0.2


def number_of(value: Any) -> float | None:
    """A cell as a number, infinite ones included; None where it is something else."""
    if isinstance(value, bool) or missing(value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(found) else found


def what_is_wrong(value: Any) -> str | None:
    """Why a cell that is there cannot be learnt from, and the cure; None where it can."""
    found = number_of(value)
    if found is not None:
        return None if math.isfinite(found) else "is infinite; correct it or leave its rows out"
    text = str(value).strip()
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return "has a decimal comma; write a point"
    if re.fullmatch(NUMBER, text):
        return "divides its digits; write 1234.5, with a point before the decimals alone"
    if re.match(rf"{NUMBER}\s*\D+$", text) or re.fullmatch(rf"\D{{1,3}}\s*{NUMBER}", text):
        return "has a unit; write the number alone, all in the same unit"
    return "is no number"


def looks_like_numbers(values: Sequence[Any]) -> bool:
    """Whether most cells are numbers, or numbers that are badly written."""
    real = [value for value in values if not missing(value) and str(value).strip()]
    good = sum(what_is_wrong(value) != "is no number" for value in real)
    return bool(real) and good >= 0.8 * len(real)


def looks_continuous(values: Sequence[Any]) -> bool:
    """Whether numbers are no labels: some have a fraction, or there are too many different ones to be labels."""
    real = [value for value in values if not missing(value) and str(value).strip()]
    found = [number_of(value) for value in real]
    fraction = any(one is not None and math.isfinite(one) and not one.is_integer() for one in found)
    comma = any(re.fullmatch(r"[+-]?\d+,\d+", str(value).strip()) for value in real)
    different = len(set(map(str, real)))
    return fraction or comma or (different > 10 and different > FRACTION_OF_ROWS * len(real))


def number_column(table: Table, without: Iterable[str | None]) -> str | None:
    """The column of the target by its name, numbers alone; one named like a score first."""
    by_lower = {name.lower(): name for name in reversed(list(table.columns)) if name not in set(without)}
    named = (by_lower[name] for name in (*SCORE_NAMES, *LABEL_NAMES) if name in by_lower)
    return next((name for name in named if looks_like_numbers(table.columns[name])), None)


def check_numbers(table: Table, columns: Columns, findings: Findings) -> Rows:
    """The rows that can be used, with their targets as floats; those without a text or a target are counted.

    Raises `DataError` that names, by row, every kind of target that is no finite number, with the cure.
    """
    rows = check(table, columns, findings, numbers=True)
    values = dict(zip(table.lines, table.columns[str(columns.label)], strict=True))
    wrong: dict[str, list[str]] = {}
    for line in rows.lines:
        why = what_is_wrong(values[line])
        if why is not None:
            wrong.setdefault(why, []).append(f"row {line} ({str(values[line]).strip()!r})")
    if wrong:
        said = "; ".join(f"{_rows(found)} {why}" for why, found in wrong.items())
        raise DataError(f"{table.name}: the column {columns.label!r} holds what is no finite number: {said}")
    numbers = tuple(float(values[line]) for line in rows.lines)
    return Rows(rows.name, rows.texts, numbers, rows.lines)


def _rows(found: list[str]) -> str:
    more = f" and {len(found) - MOST_NAMED} more rows" if len(found) > MOST_NAMED else ""
    return f"{', '.join(found[:MOST_NAMED])}{more}"
