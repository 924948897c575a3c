"""What the body forgot, for readers: the lines of a table, and those of the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from whet.report.facts import end_of
from whet.report.run_files import RunFiles

TOKENS = {"next token": "next-token loss", "masked": "masked loss"}


@dataclass(frozen=True)
class Changed:
    """A figure before and after, and after minus before with its interval."""

    where: str
    what: str
    before: float
    after: float
    difference: float
    low: float
    high: float


def changes(found: dict[str, Any] | None) -> list[Changed]:
    """All that was measured before and after: `found` is `forgetting` of metrics.json."""
    if found is None or found["sentences"] is None:
        return []
    language, remembered = found["language"], found["remembered"] or {}
    each = [
        ("sentence pairs", "Spearman", found["sentences"]["spearman"]),
        ("general text", TOKENS.get(language.get("kind"), ""), language.get("loss")),
        ("earlier task", "accuracy", remembered.get("accuracy")),
        ("earlier task", "by its own head", remembered.get("own_head")),
    ]
    names = ("before", "after", "difference", "low", "high")
    return [Changed(where, what, **{name: own[name] for name in names}) for where, what, own in each if own]


def values(run: RunFiles) -> dict[str, Any]:
    """What the report's section shows, by the names that its template uses. A run of an older whet has nothing."""
    found = run.metrics.get("forgetting")
    remembered = (found or {}).get("remembered") or {}
    return {
        "forgetting": found,
        "changes": changes(found),
        "unmeasured": list(absent(found or {})),
        "remembered": {**remembered, "name": end_of(remembered["name"])} if "name" in remembered else None,
    }


def absent(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What could not be measured, and why."""
    for name, own in (("general text", found.get("language")), ("the earlier task", found.get("remembered"))):
        if own and "absent" in own:
            yield name, own["absent"]


def lines(found: dict[str, Any] | None) -> list[str]:
    """For the terminal: one line for each figure, or why there is none."""
    if found is None:
        return []
    said = [
        f"{one.where}: {one.what} {one.before:.3f} -> {one.after:.3f} "
        f"({one.difference:+.3f}, {one.low:+.3f} to {one.high:+.3f})"
        for one in changes(found)
    ]
    return said or [found["absent"]]
