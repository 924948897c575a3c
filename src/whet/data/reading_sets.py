"""One text and any number of labels per row: which columns, which rows can be used, how they are divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from whet.data.check import (
    LABEL_NAMES,
    Columns,
    Findings,
    Rows,
    Wishes,
    check,
    find_columns,
    merged,
    named,
    none_looks_like,
    refuse_variants,
)
from whet.data.label_sets import (
    Form,
    Labels,
    about_labels,
    columns_named,
    form_asked,
    form_of,
    indicators,
    read_labels,
)
from whet.data.read import Table
from whet.data.reading import Labelled, in_order
from whet.errors import DataError, PathError, did_you_mean

SET_NAMES = ("labels", "tags", "topics", "categories", "classes", "genres", *LABEL_NAMES)


class LabelSets(Labelled):
    """How rows with any number of labels are read. A row's labels are a tuple of names."""

    @classmethod
    def columns(cls, table: Table, wishes: Wishes) -> tuple[Columns, list[str]]:
        notes = []
        label, text = wishes.label, wishes.text
        if label is None:
            form = found_form(table, text) or _named_form(table, text)
            if form is None:
                raise DataError(none_looks_like(table, "labels", "label"))
            label = ",".join(form.columns)
            notes.append(form.words)
        elif label not in table.columns and columns_named(table, label) is None:
            for name in label.split(","):
                table.column(name.strip(), "label")
        own = label.split(",") if label not in table.columns else [label]
        others = Table(table.name, {name: v for name, v in table.columns.items() if name not in own}, table.lines)
        if text in own:
            raise PathError(f"--text and --label both name the column {text!r}")
        columns, said = find_columns(others, text, None, labelled=False)
        return Columns(columns.text, label), notes + said

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
        """The rows that can be used. One without a value for its labels is left out; one with none of them is kept."""
        assert columns.label is not None
        known = set(known)
        form = columns_named(table, columns.label)
        if form is None or columns.label in table.columns:
            form = form_asked(table, columns.label, known)
        found = dict(zip(table.lines, read_labels(table, form), strict=True))
        missing = {line for line, labels in found.items() if labels is None}
        kept = [place for place, line in enumerate(table.lines) if line not in missing]
        if missing:
            findings.dropped["no value for the labels"] += len(missing)
        left = Table(
            table.name,
            {columns.text: [table.columns[columns.text][place] for place in kept]},
            [table.lines[place] for place in kept],
            table.notes,
            table.dropped,
        )
        rows = check(left, Columns(columns.text, None), findings)
        sets = [found[line] or () for line in rows.lines]
        if form.indicators and not known:
            never = sorted(set(form.columns) - {label for row in sets for label in row})
            findings.notes += [f"column {name!r} holds no 1: it is no label here" for name in never]
        return Rows(rows.name, rows.texts, _spelt(rows.name, sets, known, clean_labels, findings), rows.lines)

    @classmethod
    def names(cls, rows: Rows, columns: Columns) -> Labels:
        return in_order({label for row in rows.labels for label in row})

    @classmethod
    def strata(cls, rows: Rows) -> Sequence[Labels]:
        return rows.labels

    @classmethod
    def refuse_too_little(cls, rows: Rows, findings: Findings) -> None:
        labels = Counter(label for row in rows.labels for label in row)
        if len(labels) < 2:
            found = f"has any label but {next(iter(labels))!r}" if labels else "has a label"
            raise DataError(
                f"{rows.name}: no row {found}; where rows have any number of labels, two or more different ones are "
                "needed. Is --label the right column? Of a single yes or no, --task classification learns more simply"
            )
        if len(set(rows.labels)) < 2:
            raise DataError(f"{rows.name}: every row has the same labels ({', '.join(rows.labels[0])})")
        if len(labels) > len(rows) / 2 and len(rows) >= 10:
            raise DataError(
                f"{rows.name}: {len(labels)} different labels in {len(rows)} rows, fewer than two rows each. "
                "Is --label the right column, and are its labels divided as they were read?"
            )

    @classmethod
    def refuse_unknown(cls, part: Rows, names: tuple[str, ...]) -> None:
        for line, labels in zip(part.lines, part.labels, strict=True):
            for label in labels:
                if label not in names:
                    raise DataError(
                        f"unknown label {label!r} ({part.name}, row {line}): it does not occur in the training rows; "
                        f"{did_you_mean(label, names)}"
                    )

    @classmethod
    def notice(cls, train: Rows, findings: Findings) -> None:
        return None

    @classmethod
    def notice_parts(cls, parts: dict[str, Rows], findings: Findings) -> None:
        labels = in_order({label for row in parts["train"].labels for label in row})
        order = ("train", "valid", "test")
        findings.notes += about_labels({name: parts[name].labels for name in order}, labels)


def found_form(table: Table, text: str | None) -> Form | None:
    """How the table writes any number of labels, recognised from the columns; None where it seems to hold one a row."""
    name = named(table, SET_NAMES, without=text)
    if name is not None:
        return form_of(table, name)
    texts = find_texts(table, text)
    others = [name for name in table.columns if name != texts]
    return indicators(table, [texts]) or next(filter(None, (form_of(table, name) for name in others)), None)


def _named_form(table: Table, text: str | None) -> Form | None:
    name = named(table, SET_NAMES, without=text)
    return None if name is None else form_asked(table, name)


def find_texts(table: Table, text: str | None) -> str:
    return text or find_columns(table, None, None, labelled=False)[0].text


def _spelt(
    name: str, sets: Sequence[Labels], known: set[str], clean_labels: bool, findings: Findings
) -> tuple[Labels, ...]:
    """The labels of each row, those that differ only in case or spaces merged, or refused."""
    flat = [label for row in sets for label in row]
    if not clean_labels:
        refuse_variants(name, flat)
        return tuple(sets)
    clean = iter(merged(flat, known, findings))
    return tuple(tuple(sorted(set(islice(clean, len(row))))) for row in sets)
