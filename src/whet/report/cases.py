"""Single test rows that a person should look at: confident mistakes, and labels that the model doubts."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from whet.report.run_files import RunFiles

MOST = 15
"""Rows of each kind."""

LONGEST = 400
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Case:
    """A row of the test file. `text` is None where predictions.csv does not have it; `cut` counts the characters left
    out. `doubt` is the probability of its label where the model doubts that label."""

    row: int
    text: str | None
    cut: int
    label: str
    suggested: str
    probability: float
    doubt: float | None


def confident(run: RunFiles) -> list[Case]:
    """The mistakes that the model was surest of."""
    found = run.metrics["mistakes"]
    doubts = {one["row"]: one["probability"] for one in found["doubted"]}
    texts = texts_of(run)
    return [
        case_of(one["row"], texts, one["truth"], one["prediction"], one["probability"], doubts.get(one["row"]))
        for one in found["confident"][:MOST]
    ]


def doubted(run: RunFiles) -> list[Case]:
    """Rows whose label the model doubts and that are not among the confident mistakes already."""
    above = {case.row for case in confident(run)}
    texts = texts_of(run)
    others = [one for one in run.metrics["mistakes"]["doubted"] if one["row"] not in above]
    return [
        case_of(one["row"], texts, one["label"], one["suggested"], one["suggested_probability"], one["probability"])
        for one in others[:MOST]
    ]


def texts_of(run: RunFiles) -> dict[str, str]:
    return {row["row"]: row["text"] for row in run.predictions}


def case_of(
    row: int, texts: dict[str, str], label: str, suggested: str, probability: float, doubt: float | None
) -> Case:
    text = texts.get(str(row))
    whole = None if text is None else readable(text)
    cut = max(0, len(whole or "") - LONGEST)
    return Case(row, whole and whole[:LONGEST], cut, label, suggested, probability, doubt)


def readable(text: str) -> str:
    """The text with a mark in place of characters that no page may hold (control characters, lone surrogates)."""
    return "".join("\ufffd" if unicodedata.category(one) in {"Cc", "Cs"} and one not in "\n\t" else one for one in text)
