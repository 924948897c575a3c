"""Checking rows before they are learnt from: which columns, which rows are left out and why, which labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from whet.data.read import Table
from whet.errors import DataError, PathError

TEXT_NAMES = ("text", "sentence", "message", "content", "review", "body", "comment", "question", "utterance", "query",
              "description", "title", "document", "tweet", "input")  # fmt: skip
LABEL_NAMES = ("label", "labels", "class", "category", "intent", "target", "sentiment", "topic", "tag", "emotion", "y",
               "output", "answer")  # fmt: skip


Spans = tuple[tuple[int, int], ...]
"""Where words stand in a text: for each its first character and the one behind its last."""


@dataclass(frozen=True)
class Rows:
    """Checked rows: text, target and where each stands in its source.

    `labels` holds a row's target as its task has it: the label's name, a number, the names of several, a tag per word;
    it is empty where none was asked for. `seconds` are the other texts, where rows are pairs; `words` says where the
    words of each text are, where each of them has a target.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[Any, ...]
    lines: tuple[int, ...]
    seconds: tuple[str, ...] = ()
    words: tuple[Spans, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: list[int]) -> Rows:
        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[p] for p in positions) if values else ()

        return Rows(
            self.name, some(self.texts), some(self.labels), some(self.lines), some(self.seconds), some(self.words)
        )

    def words_of(self, number: int) -> list[str]:
        """The words of a row, where they have places."""
        return [self.texts[number][start:end] for start, end in self.words[number]]

    @property
    def keys(self) -> tuple[str, ...]:
        """What rows have in common that count as the same: the words of the text, or of both texts in either order."""
        if not self.seconds:
            return tuple(same_text(text) for text in self.texts)
        pairs = zip(self.texts, self.seconds, strict=True)
        return tuple(" | ".join(sorted(map(same_text, pair))) for pair in pairs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over texts and targets in order."""
        digest = hashlib.sha256()
        for values in (self.texts, self.labels, self.seconds, self.words):
            for value in values:
                raw = (value if isinstance(value, str) else repr(value)).encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


def same_text(text: str) -> str:
    """What two texts have in common that count as the same: not case, nor how words are spaced."""
    return " ".join(text.casefold().split())


@dataclass
class Findings:
    """What was seen while the rows were read and checked. Nothing is left out without being counted here."""

    notes: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Columns:
    """The columns that hold texts and labels; `label` is None for rows to predict, `text_b` where there is no second
    text. Where several columns hold the target, `label` names them as the option does, divided by commas."""

    text: str
    label: str | None
    text_b: str | None = None

    def given(self) -> dict[str, str]:
        """The columns as options."""
        found = {"text": self.text, "text_b": self.text_b, "label": self.label}
        return {name: column for name, column in found.items() if column is not None}


@dataclass(frozen=True)
class Wishes:
    """The columns that were asked for; None where they are to be found."""

    text: str | None = None
    label: str | None = None
    text_b: str | None = None

    @staticmethod
    def there(columns: Columns, table: Table) -> Wishes:
        """Those of other rows that a table has too."""
        return Wishes(**{name: column for name, column in columns.given().items() if column in table.columns})


def find_columns(
    table: Table, text: str | None, label: str | None, *, labelled: bool = True
) -> tuple[Columns, list[str]]:
    """The columns to use: those asked for, else recognised by name, else by content. The guesses come as notes.

    Raises `PathError` when an asked column is not there, `DataError` when none can be recognised.
    """
    notes = []
    for name, option in ((text, "text"), (label, "label")):
        if name is not None and (option == "text" or labelled):
            table.column(name, option)
    if labelled and label is None:
        label = named(table, LABEL_NAMES, without=text) or _few_values(table, without=text)
        if label is None:
            raise DataError(none_looks_like(table, "labels", "label"))
        if label in table.columns[label]:
            raise DataError(
                f"{table.name} seems to have no header: its first row holds {label!r}, and so do later rows. "
                "Put a line with the names of the columns first, for example text,label"
            )
        notes.append(f"label column: {label}")
    if text is None:
        text = named(table, TEXT_NAMES, without=label) or _longest(table, without=label)
        if text is None:
            raise DataError(none_looks_like(table, "texts", "text"))
        notes.append(f"text column: {text}")
    if text == label:
        raise PathError(f"--text and --label both name the column {text!r}")
    return Columns(text, label if labelled else None), notes


def none_looks_like(table: Table, what: str, option: str) -> str:
    columns = ", ".join(table.columns)
    return f"{table.name}: no column looks like {what} (columns: {columns}). Choose one with --{option} NAME."


def named(table: Table, names: tuple[str, ...], without: str | None) -> str | None:
    by_lower = {name.lower(): name for name in reversed(list(table.columns)) if name != without}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _few_values(table: Table, without: str | None) -> str | None:
    """The column whose values repeat most: at most a fifth as many values as rows."""
    distinct = {
        name: len({str(value) for value in values}) for name, values in table.columns.items() if name != without
    }
    likely = {name: count for name, count in distinct.items() if 1 < count <= max(2, len(table) / 5)}
    return min(likely, key=lambda name: likely[name], default=None)


def _longest(table: Table, without: str | None) -> str | None:
    sizes = {
        name: sum(len(value) for value in values if isinstance(value, str)) / len(table)
        for name, values in table.columns.items()
        if name != without
    }
    best = max(sizes, key=lambda name: sizes[name], default=None)
    return best if best is not None and sizes[best] > 0 else None


def check(
    table: Table,
    columns: Columns,
    findings: Findings,
    *,
    clean_labels: bool = False,
    known: Iterable[str] = (),
    numbers: bool = False,
) -> Rows:
    """The rows that can be used. Others are counted in `findings.dropped` by reason.

    Labels lose spaces around them. Raises `DataError` where labels differ only in case or inner spaces
    (unless `clean_labels`, which merges them into the spelling that is `known`, else into the most frequent),
    where nothing is left, and where the texts are numbers. With `numbers` the labels are numbers, of which no spellings
    are compared.
    """
    findings.notes += table.notes
    findings.dropped.update(table.dropped)
    texts, labels, lines = [], [], []
    every_label = table.columns[columns.label] if columns.label is not None else [""] * len(table)
    for line, value, label in zip(table.lines, table.columns[columns.text], every_label, strict=True):
        text = "" if missing(value) else str(value)
        if not text.strip():
            findings.dropped["empty text"] += 1
        elif columns.label is not None and not label_of(label):
            findings.dropped["no number" if numbers else "no label"] += 1
        else:
            texts.append(text)
            labels.append(label_of(label))
            lines.append(line)
    if not texts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in findings.dropped.items())
        raise DataError(f"{table.name}: no row can be used ({reasons or 'it holds none'})")
    if sum(is_number(text) for text in texts) > len(texts) / 2:
        raise DataError(
            f"{table.name}: the text column {columns.text!r} holds numbers, not texts "
            f"(columns: {', '.join(table.columns)}). Choose the column of the texts with --text NAME."
        )
    if columns.label is None:
        return Rows(table.name, tuple(texts), (), tuple(lines))
    if clean_labels:
        labels = merged(labels, known, findings)
    elif not numbers:
        refuse_variants(table.name, labels)
    return Rows(table.name, tuple(texts), tuple(labels), tuple(lines))


def label_of(value: Any) -> str:
    """A label as text: whole numbers without a decimal part, as a spreadsheet shows them."""
    if missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def as_text(value: Any) -> str:
    """A cell as a text; a missing one is empty."""
    return "" if missing(value) else str(value)


def missing(value: Any) -> bool:
    """None, or not-a-number, which is how empty cells often come."""
    return value is None or (isinstance(value, float) and value != value)


def is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _folded(label: str) -> str:
    return " ".join(label.casefold().split())


def _variants(labels: list[str]) -> dict[str, Counter[str]]:
    spellings: dict[str, Counter[str]] = {}
    for label in labels:
        spellings.setdefault(_folded(label), Counter())[label] += 1
    return {key: counts for key, counts in spellings.items() if len(counts) > 1}


def refuse_variants(name: str, labels: list[str]) -> None:
    variants = _variants(labels)
    if variants:
        shown = [
            " and ".join(f"{label!r} ({count} rows)" for label, count in counts.most_common())
            for counts in list(variants.values())[:3]
        ]
        more = f" and {len(variants) - 3} more" if len(variants) > 3 else ""
        raise DataError(
            f"{name}: labels differ only in case or spaces: {'; '.join(shown)}{more}. "
            "Correct the file, or pass --clean-labels to merge each into its most frequent spelling."
        )


def merged(labels: list[str], known: Iterable[str], findings: Findings) -> list[str]:
    best = {key: counts.most_common(1)[0][0] for key, counts in _variants(labels).items()}
    best |= {_folded(label): label for label in known}
    made = [best.get(_folded(label), label) for label in labels]
    changed = sum(old != new for old, new in zip(labels, made, strict=True))
    if changed:
        findings.notes.append(f"{changed} labels were merged into another spelling of the same words")
    return made
