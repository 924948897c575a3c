"""Scores of tags as functions of counts of sentences, and what they are made of.

Truth is an array of tag numbers for each sentence, a prediction one of probabilities (words x tags).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from whet.data.schemes import Entity, in_bio
from whet.evaluate import entities
from whet.evaluate.by_sentence import Counted

LEAST = 1e-12
"""Probabilities below this count as this in the log-loss."""
MOST = 30
"""Examples of each kind of mistake, and pairs of tags, that are kept."""
EACH = 2
"""Examples of a kind that one sentence gives, at most."""


def starts_of(rows: Sequence[Any]) -> np.ndarray:
    """Where each row begins among all, and where the last ends."""
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


def rows_first(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Flat values as an array that holds one array for each row, so that rows come first."""
    made = np.empty(len(starts) - 1, dtype=object)
    for number, (start, end) in enumerate(pairwise(starts.tolist())):
        made[number] = values[start:end]
    return made


def share(sums: np.ndarray) -> np.ndarray:
    """The first count by the second."""
    return sums[..., 0] / np.maximum(sums[..., 1], 1)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """The mean F1 over the tags that occur in truth or prediction, from ... x tags x 3 counts."""
    occurring = (sums[..., 1:].sum(-1) > 0).sum(-1)
    return entities.f1(sums).sum(-1) / np.maximum(occurring, 1)


def counted(
    truth: Sequence[np.ndarray],
    chosen: Sequence[np.ndarray],
    probabilities: Sequence[np.ndarray],
    tags: tuple[str, ...],
) -> dict[str, Counted]:
    """Each score by name: `entity_f1` where the tags are BIO, else `macro_f1`; `accuracy` of words; `log_loss`, mean
    over the words, of the probability given to the true tag. `chosen` are the predicted tags' numbers."""
    right = [(int((one == other).sum()), len(one)) for one, other in zip(truth, chosen, strict=True)]
    losses = [
        (float(-np.log(np.maximum(given[np.arange(len(one)), one], LEAST)).sum()), len(one))
        for one, given in zip(truth, probabilities, strict=True)
    ]
    types = entities.types_of(tags)
    main = of_entities(truth, chosen, tags) if types else of_tags(truth, chosen, len(tags))
    return {
        **({"entity_f1": Counted(main, entities.micro_f1)} if types else {}),
        "accuracy": Counted(np.array(right).reshape(-1, 2), share),
        **({} if types else {"macro_f1": Counted(main, macro_f1)}),
        "log_loss": Counted(np.array(losses).reshape(-1, 2), share),
    }


def of_entities(truth: Sequence[np.ndarray], chosen: Sequence[np.ndarray], tags: tuple[str, ...]) -> np.ndarray:
    """Entities found, predicted and true of each sentence and type."""
    return entities.tallies(named(truth, tags), named(chosen, tags), entities.types_of(tags))


def of_tags(truth: Sequence[np.ndarray], chosen: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Words that were given a tag rightly, were given it, and have it, of each sentence: S x tags x 3."""
    made = np.zeros((len(truth), count, 3), np.int64)
    for number, (one, other) in enumerate(zip(truth, chosen, strict=True)):
        for place, words in enumerate((one[one == other], other, one)):
            made[number, :, place] = np.bincount(words, minlength=count)
    return made


def named(numbers: Sequence[np.ndarray], tags: tuple[str, ...]) -> list[list[str]]:
    """Tag numbers of sentences as tags."""
    return [[tags[number] for number in own.tolist()] for own in numbers]


def with_limits(rows: list[dict[str, Any]], limits: np.ndarray) -> list[dict[str, Any]]:
    """Figures by type or tag with the limits (2 x types) of their F1; None of one that is not there to be found."""
    return [
        {**row, "interval": {"low": float(low), "high": float(high)} if row["support"] + row["predicted"] else None}
        for row, low, high in zip(rows, *limits, strict=True)
    ]


def mistaken_entities(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    texts: Sequence[str],
    words: Sequence[Sequence[tuple[int, int]]],
    lines: Sequence[int],
) -> dict[str, Any]:
    """How many mistakes there are of each kind, and the first of each with their text: characters from `start` to `end`
    of it are the true entity, or the predicted one where there is none. Also how many tags were predicted where none
    such can stand."""
    found = entities.mistakes(truth, predicted)
    counts = Counter(one.kind for one in found)
    examples: dict[str, list[dict[str, Any]]] = {kind: [] for kind in entities.KINDS}
    shown_of: Counter[tuple[str, int]] = Counter()
    for one in found:
        shown, place = one.truth or one.predicted, (one.kind, one.sentence)
        if shown is None or len(examples[one.kind]) >= MOST or shown_of[place] >= EACH:
            continue
        shown_of[place] += 1
        bounds, text = words[one.sentence], texts[one.sentence]
        said = {
            name: None if part is None else {"type": part.type, "text": text[slice(*extent(bounds, part))]}
            for name, part in (("truth", one.truth), ("predicted", one.predicted))
        }
        start, end = extent(bounds, shown)
        examples[one.kind].append({"row": lines[one.sentence], "text": text, "start": start, "end": end, **said})
    return {
        "counts": {kind: counts.get(kind, 0) for kind in entities.KINDS},
        "examples": examples,
        "invalid": len(in_bio(predicted, "BIO").invalid),
    }


def extent(bounds: Sequence[tuple[int, int]], entity: Entity) -> tuple[int, int]:
    """The characters of an entity."""
    return bounds[entity.start][0], bounds[entity.end - 1][1]


def confused_tags(
    truth: Sequence[np.ndarray], chosen: Sequence[np.ndarray], tags: tuple[str, ...], tokens: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """The pairs of true and predicted tag that are most frequent among mistakes, each with the words that it happens
    to most often."""
    pairs: Counter[tuple[int, int]] = Counter()
    words: dict[tuple[int, int], Counter[str]] = {}
    totals: Counter[int] = Counter()
    for one, other, own in zip(truth, chosen, tokens, strict=True):
        totals.update(one.tolist())
        for place in np.flatnonzero(one != other).tolist():
            pair = int(one[place]), int(other[place])
            pairs[pair] += 1
            words.setdefault(pair, Counter())[own[place]] += 1
    return [
        {
            "truth": tags[true],
            "prediction": tags[predicted],
            "words": count,
            "share": count / totals[true],
            "examples": [word for word, _ in words[true, predicted].most_common(5)],
        }
        for (true, predicted), count in pairs.most_common(MOST)
    ]


def values(found: Mapping[str, Counted]) -> dict[str, float]:
    """The scores as numbers."""
    return {name: float(one.value) for name, one in found.items()}
