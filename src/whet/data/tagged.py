"""How rows of words and tags, or of texts and spans, are read: which columns, what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.data import schemes
from whet.data.check import TEXT_NAMES, Columns, Findings, Rows, Spans, Wishes, as_text, named, none_looks_like
from whet.data.read import Table
from whet.data.reading import Labelled
from whet.data.schemes import Invalid, Scheme
from whet.data.spans import Span, outside, place, spans_in, words_of
from whet.errors import DataError, PathError, did_you_mean

TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("tags", "ner_tags", "pos_tags", "upos", "labels", "label")
SPAN_NAMES = ("spans", "entities", "ents", "annotations")
SAMPLE = 200
"""Rows by which columns are recognised."""
SHOWN = 5
"""Rows that a finding names."""

Cell = tuple[int, Any, Any]
"""A row's line, and what stands in its two columns."""
Sentence = tuple[int, str, Spans, tuple[str, ...]]
"""A line, a text, its words and their tags."""


@dataclass
class Seen:
    """What is found row by row: the rows of each kind, and how many things in all."""

    findings: Findings
    rows: dict[str, list[int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, line: int, count: int = 1) -> None:
        self.rows.setdefault(what, []).append(line)
        self.counts[what] = self.counts.get(what, 0) + count

    def leave_out(self, reason: str, line: int) -> None:
        self.findings.dropped[reason] += 1
        self.add(f"left out, {reason}", line)

    def notes(self, name: str) -> list[str]:
        return [f"{name}: {self.counts[what]} {what} ({rows_named(rows)})" for what, rows in self.rows.items()]


class Tagged(Labelled):
    """Words with a tag each, or a text with spans."""

    @classmethod
    def columns(cls, table: Table, wishes: Wishes) -> tuple[Columns, list[str]]:
        """Those asked for; else words with `tags` and its like, or a text with `spans` or `entities`."""
        notes = []
        for name, option in ((wishes.text, "text"), (wishes.label, "label")):
            if name is not None:
                table.column(name, option)
        words = wishes.text or named(table, (*TOKEN_NAMES, *TEXT_NAMES), without=wishes.label)
        if words is None:
            raise DataError(none_looks_like(table, "words or texts", "text"))
        first, then = (TAG_NAMES, SPAN_NAMES) if words.lower() in TOKEN_NAMES else (SPAN_NAMES, TAG_NAMES)
        tags = wishes.label or named(table, (*first, *then), without=words)
        if tags is None:
            raise DataError(none_looks_like(table, "tags or spans", "label"))
        if words == tags:
            raise PathError(f"--text and --label both name the column {words!r}")
        spans = of_spans(table, words, tags)
        if wishes.label is None:
            notes.append(f"{'span' if spans else 'tag'} column: {tags}")
        if wishes.text is None:
            notes.append(f"{'text' if spans else 'word'} column: {words}")
        return Columns(words, tags), notes

    @classmethod
    def likeness(cls, table: Table, wishes: Wishes) -> float:
        """0.95 where words and tags are lists of the same lengths, or spans are such; else 0."""
        try:
            columns, _ = cls.columns(table, wishes)
        except (DataError, PathError):
            return 0.0
        words, tags = table.columns[columns.text][:SAMPLE], table.columns[str(columns.label)][:SAMPLE]
        if of_spans(table, columns.text, str(columns.label)):
            return 0.95 if any(spans_in(cell) for cell in tags) else 0.0
        by_name = columns.text.lower() in TOKEN_NAMES and str(columns.label).lower() in TAG_NAMES
        if not by_name and any(isinstance(cell, str) for cell in (*words, *tags)):
            return 0.0
        fit = [len(cells(one)) == len(cells(other)) > 0 for one, other in zip(words, tags, strict=True)]
        return 0.95 if sum(fit) > len(fit) / 2 else 0.0

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
        """The sentences that can be used, with tags in BIO or plain; `clean_labels` mends what is invalid.

        Sentences that cannot be used are counted in `findings.dropped`. They, what was done to spans, and what is
        invalid in the scheme are named by row in `findings.notes`. Raises `DataError` where nothing is left, or where
        the tags mix schemes.
        """
        findings.notes += table.notes
        findings.dropped.update(table.dropped)
        seen, label = Seen(findings), str(columns.label)
        spans = of_spans(table, columns.text, label)
        rows = zip(table.lines, table.columns[columns.text], table.columns[label], strict=True)
        found = list(_of_spans(rows, seen) if spans else _of_words(rows, seen))
        findings.notes += seen.notes(table.name)
        if not found:
            reasons = ", ".join(f"{count} {reason}" for reason, count in findings.dropped.items())
            raise DataError(f"{table.name}: no row can be used ({reasons or 'it holds none'})")
        lines, texts, words, tags = zip(*found, strict=True)
        plain = bool(known) and all(not schemes.marks(tag) for tag in known)
        made = schemes.in_bio(tags, "BIO" if spans else "plain" if plain else None, repair=clean_labels)
        findings.notes += _said_of_scheme(table.name, made.invalid, made.scheme, lines, clean_labels)
        return Rows(table.name, texts, made.tags, lines, words=words)

    @classmethod
    def names(cls, rows: Rows, columns: Columns) -> tuple[str, ...]:
        return schemes.every_tag(tag for tags in rows.labels for tag in tags)

    @classmethod
    def strata(cls, rows: Rows) -> Sequence[str]:
        """The rarest type (or plain tag) of each sentence: so rare ones are in all parts, and in training first."""
        kinds = [{schemes.parts(tag)[1] for tag in tags} for tags in rows.labels]
        counts = Counter(kind for own in kinds for kind in own)
        return [min(own, key=lambda kind: (counts[kind], kind)) for own in kinds]

    @classmethod
    def refuse_too_little(cls, rows: Rows, findings: Findings) -> None:
        found = {tag for tags in rows.labels for tag in tags}
        if len(found) < 2:
            raise DataError(
                f"{rows.name}: every word has the tag {next(iter(found))!r}; two or more different tags are needed. "
                "Is --label the right column?"
            )

    @classmethod
    def refuse_unknown(cls, part: Rows, names: tuple[str, ...]) -> None:
        known = set(names)
        for line, tags in zip(part.lines, part.labels, strict=True):
            for tag in tags:
                if tag not in known:
                    raise DataError(
                        f"unknown tag {tag!r} ({part.name}, row {line}): it does not occur in the training rows; "
                        f"{did_you_mean(tag, names)}"
                    )

    @classmethod
    def notice(cls, train: Rows, findings: Findings) -> None:
        """Types of few entities, or plain tags of few words."""
        marked = any(schemes.marks(tag) for tags in train.labels for tag in tags)
        kinds = [[one.type for one in schemes.entities(tags)] if marked else tags for tags in train.labels]
        counts = Counter(kind for own in kinds for kind in own)
        few = [f"{kind} ({count})" for kind, count in counts.most_common()[::-1] if count < 5]
        if few:
            what = "types have fewer than 5 entities" if marked else "tags have fewer than 5 words"
            findings.notes.append(f"{len(few)} {what} to train on: {', '.join(few[:5])}")


def of_spans(table: Table, words: str, tags: str) -> bool:
    """Whether a column holds spans of the texts in another."""
    texts = [cell for cell in table.columns[words][:SAMPLE] if cell is not None]
    held = [cell for cell in table.columns[tags][:SAMPLE] if cell is not None]
    return all(isinstance(text, str) for text in texts) and all(spans_in(cell) is not None for cell in held)


def sentences(given: Iterable[Any], name: str, lines: Sequence[int]) -> Rows:
    """Rows to predict: of each item that is a text its words, of each that is a list of words these. Nothing is left
    out."""
    pairs = [(one, words_of(one)) if isinstance(one, str) else joined([as_text(word) for word in one]) for one in given]
    return Rows(name, tuple(text for text, _ in pairs), (), tuple(lines), words=tuple(words for _, words in pairs))


def rows_named(lines: Sequence[int]) -> str:
    """`row 4`, or `rows 4, 9, 12, 15, 16 and 3 more`."""
    some = list(dict.fromkeys(lines))
    shown = ", ".join(str(line) for line in some[:SHOWN])
    more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{'row' if len(some) == 1 else 'rows'} {shown}{more}"


def cells(value: Any) -> list[Any]:
    """The words or tags of a cell: a list, or a text of them with spaces between; none of anything else."""
    if isinstance(value, str):
        return value.split()
    return list(value) if isinstance(value, Sequence | np.ndarray) else []


def joined(tokens: Sequence[str]) -> tuple[str, Spans]:
    """A text of words with spaces between, and where each stands in it."""
    bounds, at = [], 0
    for token in tokens:
        bounds.append((at, at + len(token)))
        at += len(token) + 1
    return " ".join(tokens), tuple(bounds)


def _said_of_scheme(
    name: str, invalid: Sequence[Invalid], scheme: Scheme, lines: Sequence[int], mended: bool
) -> list[str]:
    notes = [] if scheme in ("BIO", "plain") else [f"{name}: tags are in {scheme}; read as BIO"]
    if invalid:
        rows, first = rows_named([lines[one.sentence] for one in invalid]), invalid[0]
        done = "mended" if mended else "left as they are; --clean-labels mends them"
        count = "1 tag stands" if len(invalid) == 1 else f"{len(invalid)} tags stand"
        notes.append(
            f"{name}: {count} where {scheme} allows none such, the first {first.tag!r} at word {first.word + 1} of row "
            f"{lines[first.sentence]} ({rows}): {done}"
        )
    return notes


def _of_words(rows: Iterable[Cell], seen: Seen) -> Iterator[Sentence]:
    for line, words, tags in rows:
        tokens = [as_text(token) for token in cells(words)]
        own = tuple(as_text(tag).strip() for tag in cells(tags))
        if not any(token.strip() for token in tokens):
            seen.leave_out("empty sentence", line)
        elif len(tokens) != len(own):
            seen.leave_out("unequal numbers of tokens and tags", line)
        elif not all(own):
            seen.leave_out("a word without a tag", line)
        else:
            yield (line, *joined(tokens), own)


def _of_spans(rows: Iterable[Cell], seen: Seen) -> Iterator[Sentence]:
    for line, value, cell in rows:
        text, spans = as_text(value), spans_in(cell)
        if not text.strip():
            seen.leave_out("empty sentence", line)
        elif spans is None:
            seen.leave_out("spans that are no list of start, end and label", line)
        elif outside(text, spans):
            seen.leave_out("a span outside the text", line)
        else:
            yield (line, text, words_of(text), _placed(text, spans, line, seen))


def _placed(text: str, spans: list[Span], line: int, seen: Seen) -> tuple[str, ...]:
    found = place(text, words_of(text), spans)
    if found.inside:
        seen.add("spans begin or end inside a word and take the whole of it", line, len(found.inside))
    if found.overlapping:
        seen.add("spans overlap a longer one, or share a word with it, and are left out", line, len(found.overlapping))
    return found.tags
