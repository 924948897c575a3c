"""Strict scores of entities: one counts as found where first word, last word and type are all right.

Matches are those of nervaluate's strict scheme, which is that of the CoNLL shared tasks (Tjong Kim Sang and De Meulder
2003, https://aclanthology.org/W03-0419). All scores are functions of counts of sentences, so that sentences can be
drawn again for intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from whet.data.schemes import Entity, entities

Kind = Literal["missed", "spurious", "wrong border", "wrong type"]
KINDS: tuple[Kind, ...] = ("missed", "spurious", "wrong border", "wrong type")
FOUND, PREDICTED, TRUE = range(3)


def types_of(tags: Sequence[str]) -> tuple[str, ...]:
    """The types of BIO tags, in alphabetical order."""
    return tuple(sorted({tag[2:] for tag in tags if tag[:2] in ("B-", "I-")}))


def tallies(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], types: tuple[str, ...]) -> np.ndarray:
    """Of each sentence and type the entities found, predicted and true: S x types x 3. Tags are in BIO."""
    from nervaluate.entities import Entity as Marked
    from nervaluate.strategies import StrictEvaluation

    place, strict = {name: number for number, name in enumerate(types)}, StrictEvaluation()
    made = np.zeros((len(truth), len(types), 3), np.int64)
    for number, tags in enumerate(zip(truth, predicted, strict=True)):
        true, own = (entities(one) for one in tags)
        for one in own:
            made[number, place[one.type], PREDICTED] += 1
        for one in true:
            made[number, place[one.type], TRUE] += 1
        if not (true and own):
            continue
        marked = [[Marked(label=e.type, start=e.start, end=e.end - 1) for e in found] for found in (true, own)]
        _, indices = strict.evaluate(*marked, list(types))
        for _, index in indices.correct_indices:
            made[number, place[own[index].type], FOUND] += 1
    return made


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of ... x 3 counts; 0 where there is nothing to find and nothing was predicted."""
    both = counts[..., PREDICTED] + counts[..., TRUE]
    return np.where(both > 0, 2 * counts[..., FOUND] / np.maximum(both, 1), 0.0)


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """F1 over all types together, from ... x types x 3 counts."""
    return f1(counts.sum(-2))


def by_type(counts: np.ndarray, types: tuple[str, ...]) -> list[dict[str, Any]]:
    """Precision, recall, F1, support (true entities) and predictions of each type, from types x 3 counts."""
    return [
        {
            "label": name,
            "precision": float(own[FOUND] / max(own[PREDICTED], 1)),
            "recall": float(own[FOUND] / max(own[TRUE], 1)),
            "f1": float(f1(own)),
            "support": int(own[TRUE]),
            "predicted": int(own[PREDICTED]),
        }
        for name, own in zip(types, counts, strict=True)
    ]


@dataclass(frozen=True)
class Mistake:
    """An entity that is not as it should be, in a sentence (counted from 0). `truth` is None for a spurious one,
    `predicted` for a missed one."""

    sentence: int
    kind: Kind
    truth: Entity | None
    predicted: Entity | None


def mistakes(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[Mistake]:
    """All mistakes, sentence by sentence. Each true and each predicted entity that is no match is in one of them.

    Same words, another type: wrong type. Else with words in common, of the same type where there is one: wrong border,
    whatever the type. What is left is missed or spurious.
    """
    found: list[Mistake] = []
    for number, tags in enumerate(zip(truth, predicted, strict=True)):
        true, own = (entities(one) for one in tags)
        same = set(true) & set(own)
        found += _of_sentence(number, [e for e in true if e not in same], [e for e in own if e not in same])
    return found


def _of_sentence(number: int, true: list[Entity], own: list[Entity]) -> list[Mistake]:
    found, left = [], list(true)
    spans = {(one.start, one.end): one for one in true}
    rest = []
    for one in own:
        match = spans.get((one.start, one.end))
        if match is None:
            rest.append(one)
            continue
        left.remove(match)
        found.append(Mistake(number, "wrong type", match, one))
    for one in rest:
        shared = [other for other in left if other.start < one.end and one.start < other.end]
        match = next((other for other in shared if other.type == one.type), shared[0] if shared else None)
        if match is not None:
            left.remove(match)
        found.append(Mistake(number, "spurious" if match is None else "wrong border", match, one))
    found += [Mistake(number, "missed", one, None) for one in left]
    return sorted(found, key=lambda one: (one.truth or one.predicted or Entity(0, 0, "")).start)
