"""What a report shows of tags: figures by type or tag, and examples of what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whet.report.cases import readable
from whet.report.run_files import RunFiles

SHOWN = 8
"""Examples of each kind of mistake."""
AROUND = 120
"""Characters of a text that are shown on each side of an entity."""
PAIRS = 15

KINDS = {
    "missed": "Missed: there, and nothing was predicted",
    "spurious": "Spurious: predicted, and nothing is there",
    "wrong border": "Wrong border: shares words with what is there",
    "wrong type": "Wrong type: the right words, called something else",
}


@dataclass(frozen=True)
class Example:
    """A text in three parts, the entity in the middle, and what was said of it; None where nothing was."""

    row: int
    before: str
    entity: str
    after: str
    truth: dict[str, str] | None
    predicted: dict[str, str] | None


def entities(run: RunFiles) -> dict[str, Any]:
    found = run.metrics["entities"]
    kinds = [
        (title, found["counts"][kind], [_example(one) for one in found["examples"][kind][:SHOWN]])
        for kind, title in KINDS.items()
    ]
    return {"types": by_support(found["types"]), "entity_mistakes": kinds, "invalid_tags": found["invalid"]}


def tags(run: RunFiles) -> dict[str, Any]:
    found = run.metrics["tags"]
    return {"tag_figures": by_support(found["figures"]), "tag_pairs": found["confused"][:PAIRS]}


def by_support(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most frequent first."""
    return sorted(rows, key=lambda row: -row["support"])


def _example(one: dict[str, Any]) -> Example:
    text, start, end = one["text"], one["start"], one["end"]
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    return Example(
        row=one["row"],
        before=("… " if start > AROUND else "") + readable(before),
        entity=readable(text[start:end]),
        after=readable(after) + (" …" if end + AROUND < len(text) else ""),
        truth=one["truth"],
        predicted=one["predicted"],
    )
