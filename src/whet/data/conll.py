"""Files of the CoNLL kind: a word a line with its columns, a blank line between sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whet.errors import DataError

SUFFIXES = (".conll", ".conllu", ".iob", ".bio")
TOKENS, TAGS = "tokens", "tags"
UNIVERSAL = ("id", TOKENS, "lemma", TAGS, "xpos", "feats", "head", "deprel", "deps", "misc")
"""The columns of CoNLL-U (https://universaldependencies.org/format.html), whose tags are the universal ones."""

SAMPLE = 200_000
"""Characters by which a file is recognised."""

Block = list[tuple[int, list[str]]]
"""The lines of a sentence: number in the file, and fields."""


def looks_like_conll(text: str) -> bool:
    """Whether a text file without a telling name holds words in columns: blank lines divide it into blocks of more than
    two lines on average, and all lines have the same number of fields, two at least."""
    blocks = _blocks(text[:SAMPLE], universal=False)[: -1 if len(text) > SAMPLE else None]
    widths = {len(fields) for block in blocks for _, fields in block}
    lines = sum(len(block) for block in blocks)
    return len(blocks) > 1 and len(widths) == 1 and min(widths) > 1 and lines > 2 * len(blocks)


def read_conll(path: Path, text: str) -> tuple[dict[str, list[Any]], list[int], dict[str, int], list[str]]:
    """Columns, the line where each sentence begins, sentences left out by reason, and what was guessed.

    Each cell is the list of a sentence's words, or of their fields in one column: `tokens` is the first, `tags` the
    last, `column 2` and so on those between. Fields are divided by tabs where there are any, else by spaces. Lines
    that begin with -DOCSTART- divide documents. Comments before a sentence (# name = value) are left out; of CoNLL-U
    also ranges and empty nodes. Raises `DataError` where no line has two fields.
    """
    universal = path.suffix.lower() == ".conllu"
    blocks = _blocks(text, universal=universal)
    widths = [len(fields) for block in blocks for _, fields in block]
    width = max(set(widths), key=widths.count) if widths else 0
    if width < 2:
        raise DataError(
            f"{path} is no file of words and tags: a line needs a word and a tag, with a tab or space between"
        )
    names = list(UNIVERSAL[:width]) if universal else [TOKENS, *(f"column {n}" for n in range(2, width)), TAGS]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    lines, dropped, notes = [], dict[str, int](), list[str]()
    for block in blocks:
        wrong = next((number for number, fields in block if len(fields) != width), None)
        if wrong is not None:
            reason = f"a line without {width} fields"
            dropped[reason] = dropped.get(reason, 0) + 1
            notes.append(f"{path.name}, line {wrong}: not {width} fields, as most lines have; its sentence is left out")
            continue
        lines.append(block[0][0])
        for number, name in enumerate(names):
            columns[name].append([fields[number] for _, fields in block])
    if len(notes) > 5:
        notes = [*notes[:5], f"{path.name}: and {len(notes) - 5} more such lines"]
    if width > 2 and not universal:
        notes.append(f"{path.name}: {width} columns; the last holds the tags (others: --label 'column 2')")
    return columns, lines, dropped, notes


def _blocks(text: str, *, universal: bool) -> list[Block]:
    """The sentences of a text; only tabs divide fields where any line has one."""
    tabs = "\t" in text
    blocks: list[Block] = [[]]
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        fields = line.split("\t") if tabs else line.split()
        if not line.strip() or line.startswith("-DOCSTART-"):
            if blocks[-1]:
                blocks.append([])
        elif not _aside(line, fields, universal, first=not blocks[-1]):
            blocks[-1].append((number, [field.strip() for field in fields]))
    return [block for block in blocks if block]


def _aside(line: str, fields: list[str], universal: bool, first: bool) -> bool:
    """Whether a line is no word: a comment before a sentence, or a range or an empty node of CoNLL-U."""
    if universal:
        return line.startswith("#") or not fields[0].isdigit()
    return first and line.startswith("# ") and " = " in line
