"""Rows of every task for the contracts: few, small, with something to learn. A new task joins by having some here."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tiny import rows_of_messages

LABELS = ("card_problem", "loan_request", "order_status")
Table = list[dict[str, Any]]


def messages(count: int, start: int) -> Table:
    """Messages in three labels that take turns, from number `start` of each."""
    own = {label: [row for row in rows_of_messages() if row["label"] == label][start:] for label in LABELS}
    return [own[LABELS[number % 3]][number // 3] for number in range(count)]


def length_of(text: str) -> float:
    """A number that a text tells: its words, less some."""
    return round(2.5 * len(text.split()) - 10.5, 2)


def pairs(count: int, start: int) -> list[tuple[str, str, bool]]:
    """Two texts, and whether they are of one label."""
    rows, found = messages(count + 6, start), []
    for number in range(count):
        same = number % 2 == 0
        other = rows[number + (3 if same else 1)]
        found.append((rows[number]["text"], other["text"], same))
    return found


def labelled_pairs(count: int, start: int) -> Table:
    kinds = {True: "alike", False: "other"}
    return [{"text_a": a, "text_b": b, "label": kinds[same]} for a, b, same in pairs(count, start)]


def scored_pairs(count: int, start: int) -> Table:
    return [
        {"text_a": a, "text_b": b, "score": round(3.5 * same + 0.1 * (number % 7), 1)}
        for number, (a, b, same) in enumerate(pairs(count, start))
    ]


def numbers(count: int, start: int) -> Table:
    return [{"text": row["text"], "score": length_of(row["text"])} for row in messages(count, start)]


def tagged(count: int, start: int) -> Table:
    """Long words in a row are an entity."""
    made = []
    for row in messages(count, start):
        tokens, tags = row["text"].split(), ["O"]
        for token in tokens:
            long = len(token) > 5
            tags.append(("I-LONG" if tags[-1] != "O" else "B-LONG") if long else "O")
        made.append({"tokens": " ".join(tokens), "tags": " ".join(tags[1:])})
    return made


def label_sets(count: int, start: int) -> Table:
    """The label of a message, whether it is long and whether it asks; every fifth has none."""
    found = []
    for number, row in enumerate(messages(count, start)):
        marks = {row["label"]: True, "long": len(row["text"].split()) > 15, "asks": "?" in row["text"]}
        labels = [label for label, has in marks.items() if has and number % 5]
        found.append({"text": row["text"], "labels": ";".join(labels)})
    return found


ROWS: dict[str, Callable[[int, int], Table]] = {
    "classification": messages,
    "multi-label": label_sets,
    "pair-classification": labelled_pairs,
    "pair-regression": scored_pairs,
    "regression": numbers,
    "tagging": tagged,
}
"""By the task's name: so many rows, made from messages that come after others."""


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
