"""Texts whose entities are given as character spans: the words of the text, and the tags that the spans give them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from whet.data.check import Spans
from whet.data.schemes import Entity, tags_of

APART = ((0x0E00, 0x0EFF), (0x2E80, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Scripts written without spaces between words (Thai, Lao, Chinese, Japanese): each character is a word."""


class Span(NamedTuple):
    """Characters `start` to `end` (the first that is no part of it) of a text, and the type."""

    start: int
    end: int
    type: str


class Placed(NamedTuple):
    """The tags of a text's words, and the spans that begin or end inside a word, overlap a longer one, or meet another
    in one word."""

    tags: tuple[str, ...]
    inside: list[Span]
    overlapping: list[Span]


@cache
def _kind(character: str) -> str:
    code = ord(character)
    if character.isspace():
        return " "
    if any(low <= code <= high for low, high in APART):
        return "alone"
    # Marks belong to the letter before them; joiners stand inside words of Indic scripts and of Persian.
    letter = unicodedata.category(character)[0] in "LMN" or character in "_\u200c\u200d"
    return "word" if letter else "alone"


def words_of(text: str) -> Spans:
    """The words of a text: runs of letters, digits and marks; every other character that is no space by itself."""
    found: list[tuple[int, int]] = []
    at = 0
    for kind, run in groupby(text, _kind):
        size = sum(1 for _ in run)
        if kind == "word":
            found.append((at, at + size))
        elif kind == "alone":
            found += [(place, place + 1) for place in range(at, at + size)]
        at += size
    return tuple(found)


def spans_in(value: Any) -> list[Span] | None:
    """The spans of a cell: a list of {start, end, label} or [start, end, label], or the same as JSON; no list is none.
    None where it is something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except json.JSONDecodeError:
            return None
    if value is None:
        return []
    if not isinstance(value, Sequence):
        return None
    found = [_span(one) for one in value]
    return None if None in found else [one for one in found if one is not None]


def _span(one: Any) -> Span | None:
    if isinstance(one, Mapping):
        label = next((one[name] for name in ("label", "type", "tag", "entity", "entity_group") if name in one), None)
        one = (one.get("start"), one.get("end"), label)
    if not isinstance(one, Sequence) or isinstance(one, str) or len(one) != 3:
        return None
    start, end, label = one
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (start, end))
    return Span(start, end, label.strip()) if whole and isinstance(label, str) and label.strip() else None


def outside(text: str, spans: Sequence[Span]) -> list[Span]:
    """Those spans that lie outside the text, hold nothing, or end before they begin."""
    return [
        span for span in spans if not 0 <= span.start < span.end <= len(text) or not text[span.start : span.end].strip()
    ]


def place(text: str, words: Spans, spans: Sequence[Span]) -> Placed:
    """The BIO tags that spans give the words of a text. None of them lies outside it.

    Space at a span's ends is no part of it. A span that begins or ends inside a word takes the whole word. Of spans
    that overlap the longest is kept, the first of equals.
    """
    bare = list(dict.fromkeys(_without_space(text, span) for span in spans))
    word_at = [-1] * len(text)
    for number, (start, end) in enumerate(words):
        word_at[start:end] = [number] * (end - start)
    taken = [False] * len(words)
    kept: list[Entity] = []
    inside, overlapping = [], []
    for span in sorted(bare, key=lambda span: (span.start - span.end, span.start)):
        first, last = word_at[span.start], word_at[span.end - 1]
        if any(taken[first : last + 1]):
            overlapping.append(span)
            continue
        taken[first : last + 1] = [True] * (last + 1 - first)
        kept.append(Entity(first, last + 1, span.type))
        if words[first][0] != span.start or words[last][1] != span.end:
            inside.append(span)
    return Placed(tags_of(kept, len(words)), sorted(inside), sorted(overlapping))


def _without_space(text: str, span: Span) -> Span:
    held = text[span.start : span.end]
    start = span.start + len(held) - len(held.lstrip())
    return Span(start, span.end - len(held) + len(held.rstrip()), span.type)
