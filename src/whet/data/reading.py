"""What a task says of the rows that it learns from: which columns, which rows can be used, how they are divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from whet.data.check import Columns, Findings, Rows, Wishes, check, find_columns
from whet.data.read import Table
from whet.errors import DataError, did_you_mean


class Reading(Protocol):
    """How a task reads rows; `name` is the task's."""

    name: str

    def said_of(self, columns: Columns) -> str:
        """The task and its columns, for the first line that is printed."""

    def columns(self, table: Table, wishes: Wishes) -> tuple[Columns, list[str]]:
        """The columns to use: those asked for, else recognised, and the guesses in words. Raises `PathError` when an
        asked column is not there, `DataError` when none can be recognised."""

    def check(
        self,
        table: Table,
        columns: Columns,
        findings: Findings,
        *,
        clean_labels: bool = False,
        known: Iterable[str] = (),
    ) -> Rows:
        """The rows that can be used; others are counted in `findings.dropped`. `known` are the labels of the training
        rows, where these are other rows. Raises `DataError` for what has to be mended in the file."""

    def names(self, rows: Rows, columns: Columns) -> tuple[str, ...]:
        """The names of a head's outputs for these training rows, in their order."""

    def strata(self, rows: Rows) -> Sequence[str] | Sequence[tuple[str, ...]]:
        """For each row what it should be divided by, so that the parts of a split hold the same mixture: one name, or
        any number of them."""

    def refuse_too_little(self, rows: Rows, findings: Findings) -> None:
        """Raises `DataError` where nothing can be learnt from all the rows together."""

    def refuse_unknown(self, part: Rows, names: tuple[str, ...]) -> None:
        """Raises `DataError` for a row of validation or test whose target training does not know."""

    def notice(self, train: Rows, findings: Findings) -> None:
        """Note what is worth knowing of the training rows."""

    def notice_parts(self, parts: dict[str, Rows], findings: Findings) -> None:
        """Note what is worth knowing of `train`, `valid` and `test` beside each other."""


class Labelled:
    """One text and one label per row. What else a task reads starts from this."""

    name: ClassVar[str] = "classification"

    @classmethod
    def said_of(cls, columns: Columns) -> str:
        inputs = columns.text if columns.text_b is None else f"{columns.text}, {columns.text_b}"
        return f"{cls.name} ({inputs} -> {columns.label})"

    @classmethod
    def columns(cls, table: Table, wishes: Wishes) -> tuple[Columns, list[str]]:
        return find_columns(table, wishes.text, wishes.label)

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
        return check(table, columns, findings, clean_labels=clean_labels, known=known)

    @classmethod
    def names(cls, rows: Rows, columns: Columns) -> tuple[str, ...]:
        return in_order(set(rows.labels))

    @classmethod
    def strata(cls, rows: Rows) -> Sequence[str] | Sequence[tuple[str, ...]]:
        return rows.labels

    @classmethod
    def refuse_too_little(cls, rows: Rows, findings: Findings) -> None:
        counts = Counter(rows.labels)
        if len(counts) < 2:
            only = next(iter(counts))
            gone = ", ".join(f"{count} with {reason}" for reason, count in findings.dropped.items())
            raise DataError(
                f"{rows.name}: every row {f'that can be used ({gone} left out) ' if gone else ''}has the label "
                f"{only!r}; two or more different labels are needed. Is --label the right column?"
            )
        if len(counts) > len(rows) / 2 and len(rows) >= 10:
            raise DataError(
                f"{rows.name}: {len(counts)} different labels in {len(rows)} rows, fewer than two rows each. "
                "Is --label the right column?"
            )

    @classmethod
    def refuse_unknown(cls, part: Rows, names: tuple[str, ...]) -> None:
        for line, label in zip(part.lines, part.labels, strict=True):
            if label not in names:
                raise DataError(
                    f"unknown label {label!r} ({part.name}, row {line}): it does not occur in the training rows; "
                    f"{did_you_mean(label, names)}"
                )

    @classmethod
    def notice(cls, train: Rows, findings: Findings) -> None:
        few = {label: count for label, count in Counter(train.labels).items() if count < 5}
        if few:
            shown = ", ".join(
                f"{label} ({count})" for label, count in sorted(few.items(), key=lambda item: item[1])[:5]
            )
            findings.notes.append(f"{len(few)} labels have fewer than 5 training rows: {shown}")

    @classmethod
    def notice_parts(cls, parts: dict[str, Rows], findings: Findings) -> None:
        return None


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels as they number a head's outputs: numbers in their own order, others by letter."""
    return tuple(sorted(labels, key=_by_number))


def _by_number(label: str) -> tuple[int, float, str]:
    """Labels that are numbers in the order of the numbers, others by letter."""
    return (0, float(label), label) if label.lstrip("-").isdigit() else (1, 0.0, label)
