"""Checking rows of words and tags before they are learnt from: what is left out and why, with the rows' numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from whet.data import schemes
from whet.data.check import Findings, as_text
from whet.data.read import Table
from whet.data.schemes import Invalid, Scheme
from whet.data.spans import Bounds, Span, outside, place, spans_in, words_of
from whet.errors import DataError

TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("tags", "ner_tags", "pos_tags", "upos", "labels", "label")
SPAN_NAMES = ("spans", "entities", "ents", "annotations")
SHOWN = 5
"""Rows that a finding names."""


@dataclass(frozen=True)
class Sentences:
    """Checked sentences: text, the words' tags in BIO or plain (empty where none were asked for), where each sentence
    stands in its source, and where each word stands in its text."""

    name: str
    texts: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    words: tuple[Bounds, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: Sequence[int]) -> Sentences:
        return Sentences(
            self.name,
            tuple(self.texts[p] for p in positions),
            tuple(self.labels[p] for p in positions) if self.labels else (),
            tuple(self.lines[p] for p in positions),
            tuple(self.words[p] for p in positions),
        )

    def tokens(self, number: int) -> list[str]:
        """The words of a sentence."""
        return [self.texts[number][start:end] for start, end in self.words[number]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over texts, words and tags in order."""
        digest = hashlib.sha256()
        for number, text in enumerate(self.texts):
            row = [text, self.words[number], self.labels[number] if self.labels else None]
            raw = json.dumps(row).encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()


@dataclass(frozen=True)
class TagColumns:
    """The columns of the words and their tags, or of the texts and their spans; `tags` is None for rows to predict."""

    words: str
    tags: str | None
    spans: bool


@dataclass
class Seen:
    """What is found row by row: the first rows of each kind, and how many things in all."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, line: int, count: int = 1) -> None:
        self.rows.setdefault(what, []).append(line)
        self.counts[what] = self.counts.get(what, 0) + count

    def notes(self, name: str) -> list[str]:
        return [f"{name}: {self.counts[what]} {what} ({rows_named(rows)})" for what, rows in self.rows.items()]


def rows_named(lines: Sequence[int]) -> str:
    """ "row 4", or "rows 4, 9, 12 and 3 more"."""
    some = list(dict.fromkeys(lines))
    shown = ", ".join(str(line) for line in some[:SHOWN])
    more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{'row' if len(some) == 1 else 'rows'} {shown}{more}"


def tag_columns(table: Table, text: str | None, label: str | None) -> TagColumns | None:
    """The columns of words and tags, or of texts and spans: those asked for, else recognised by name; None where there
    are none such."""
    by_lower = {name.lower(): name for name in reversed(list(table.columns))}

    def named(names: tuple[str, ...]) -> str | None:
        return next((by_lower[name] for name in names if name in by_lower), None)

    words, tags = text or named(TOKEN_NAMES), label or named(TAG_NAMES)
    if words is not None and tags is not None and words in table.columns and _lists(table.columns[words]):
        return TagColumns(words, tags, spans=False)
    words, spans = text or named(("text", "sentence", "content")), label or named(SPAN_NAMES)
    if words is not None and spans is not None and spans in table.columns:
        rows = [value for value in table.columns[spans] if value is not None]
        if rows and all(spans_in(value) is not None for value in rows[:100]):
            return TagColumns(words, spans, spans=True)
    return None


def _lists(values: Sequence[Any]) -> bool:
    """Whether cells hold lists, or, of a table of texts, words divided by spaces."""
    return all(isinstance(value, Sequence) for value in values if value is not None)


def check_tagged(
    table: Table, columns: TagColumns, findings: Findings, *, repair: bool = False, scheme: Scheme | None = None
) -> tuple[Sentences, Scheme]:
    """The sentences that can be used, with tags in BIO or plain, and the scheme that they came in.

    Sentences that cannot be used are counted in `findings.dropped`; they, what was done to spans and what is invalid in
    the scheme are named by row in `findings.notes`. With `repair` what is invalid is mended. A known `scheme` is not
    guessed again. Raises `DataError` where nothing is left, or where the tags mix schemes.
    """
    findings.notes += table.notes
    findings.dropped.update(table.dropped)
    seen = Seen()
    read = _of_spans if columns.spans else _of_words
    found = list(read(table, columns, findings, seen))
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in findings.dropped.items())
        raise DataError(f"{table.name}: no row can be used ({reasons or 'it holds none'})")
    lines, texts, words, tags = (tuple(column) for column in zip(*found, strict=True))
    made: tuple[tuple[str, ...], ...] = ()
    if columns.tags is not None:
        own = "BIO" if columns.spans else scheme if scheme in ("BIO", "plain") else None
        bio = schemes.in_bio(tags, own, repair=repair)
        scheme, made = bio.scheme, bio.tags
        findings.notes += _said_of_scheme(table.name, bio.invalid, bio.scheme, lines, repair)
    findings.notes += seen.notes(table.name)
    return Sentences(table.name, texts, made, lines, words), scheme or "plain"


def _said_of_scheme(
    name: str, invalid: Sequence[Invalid], scheme: Scheme, lines: Sequence[int], repair: bool
) -> list[str]:
    notes = [] if scheme in ("BIO", "plain") else [f"{name}: tags are in {scheme}; read as BIO"]
    if invalid:
        rows = rows_named([lines[one.sentence] for one in invalid])
        first = invalid[0]
        done = "repaired" if repair else "left as they are; --repair-tags mends them"
        count = "1 tag stands" if len(invalid) == 1 else f"{len(invalid)} tags stand"
        notes.append(
            f"{name}: {count} where {scheme} allows none such, the first {first.tag!r} at word {first.word + 1} of row "
            f"{lines[first.sentence]} ({rows}): {done}"
        )
    return notes


def _of_words(table: Table, columns: TagColumns, findings: Findings, seen: Seen) -> Any:
    every = table.columns[columns.tags] if columns.tags is not None else [None] * len(table)
    for line, words, tags in zip(table.lines, table.columns[columns.words], every, strict=True):
        tokens = [as_text(token) for token in cells(words)]
        own = [as_text(tag).strip() for tag in cells(tags)]
        if not any(token.strip() for token in tokens):
            _leave_out("empty sentence", line, findings, seen)
        elif columns.tags is not None and len(tokens) != len(own):
            _leave_out("unequal numbers of tokens and tags", line, findings, seen)
        elif columns.tags is not None and not all(own):
            _leave_out("a word without a tag", line, findings, seen)
        else:
            yield (line, *joined(tokens), tuple(own))


def _of_spans(table: Table, columns: TagColumns, findings: Findings, seen: Seen) -> Any:
    every = table.columns[columns.tags] if columns.tags is not None else [None] * len(table)
    for line, value, cell in zip(table.lines, table.columns[columns.words], every, strict=True):
        text, spans = as_text(value), spans_in(cell)
        if not text.strip():
            _leave_out("empty sentence", line, findings, seen)
        elif spans is None:
            _leave_out("spans that are no list of start, end and label", line, findings, seen)
        elif outside(text, spans):
            _leave_out("a span outside the text", line, findings, seen)
        else:
            yield (line, text, words_of(text), _placed(text, spans, line, seen))


def _placed(text: str, spans: list[Span], line: int, seen: Seen) -> tuple[str, ...]:
    words = words_of(text)
    found = place(text, words, spans)
    if found.inside:
        seen.add("spans begin or end inside a word and take the whole of it", line, len(found.inside))
    if found.overlapping:
        seen.add("spans overlap a longer one, or share a word with it, and are left out", line, len(found.overlapping))
    return found.tags


def _leave_out(reason: str, line: int, findings: Findings, seen: Seen) -> None:
    findings.dropped[reason] += 1
    seen.add(f"left out, {reason}", line)


def cells(value: Any) -> list[Any]:
    """The words or tags of a cell: a list, or a text of them with spaces between."""
    if value is None:
        return []
    return value.split() if isinstance(value, str) else list(value)


def joined(tokens: Sequence[str]) -> tuple[str, Bounds]:
    """A text of words with spaces between, and where each stands in it."""
    bounds, at = [], 0
    for token in tokens:
        bounds.append((at, at + len(token)))
        at += len(token) + 1
    return " ".join(tokens), tuple(bounds)
