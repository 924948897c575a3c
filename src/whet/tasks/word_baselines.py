"""The baselines of tagging, from its material: words, and the frozen states of words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from whet.data.check import Rows
from whet.data.pieces import Pieces
from whet.evaluate.baselines import TITLES, Absent, Baseline, Parts, frozen
from whet.evaluate.budget import Problem, stratified_order
from whet.evaluate.tag_baselines import word_tag
from whet.evaluate.tag_scores import rows_first, starts_of
from whet.tasks.material import Found, Material

MOST_WORDS = 50_000
"""Training words whose frozen states are fitted to, at most."""
MOST_HELD = 1_000_000
"""Words of validation and test, beyond which their states are not held in memory a second time."""


def word_baselines(material: Material, tags: int) -> Found:
    """The most frequent tag of each word; frozen states of words under a logistic regression."""
    rows, truth = material.rows, material.truth
    starts = Parts(*(starts_of(one.words) for one in (rows.train, rows.valid, rows.test)))
    problem = Problem(
        train=np.concatenate(truth.train),
        valid=np.concatenate(truth.valid),
        classes=tags,
        score=lambda found, _: material.score(truth.valid, rows_first(found, starts.valid)),
        class_weight=material.settings.class_weight,
        seed=material.settings.seed,
    )
    found = [word_tag(problem, *(words(one) for one in (rows.train, rows.valid, rows.test))), states(problem, material)]
    return [
        one
        if isinstance(one, Absent)
        else replace(one, valid=rows_first(one.valid, starts.valid), test=rows_first(one.test, starts.test))
        for one in found
    ]


def words(rows: Rows) -> list[str]:
    return [word for number in range(len(rows)) for word in rows.words_of(number)]


def states(problem: Problem, material: Material) -> Baseline | Absent:
    """States at the first sub-word of each word, of at most `MOST_WORDS` training words."""
    features, parts = material.features, material.parts
    if features.states is None:
        return Absent("frozen", TITLES["frozen"], features.why)
    train, valid, test = (one.beside for one in (parts.train, parts.valid, parts.test))
    if len(valid.words.places) + len(test.words.places) > MOST_HELD:
        return Absent("frozen", TITLES["frozen"], f"validation and test have more than {MOST_HELD:,} words")
    places, numbers, cuts = train.words.places, problem.train, features.cuts
    if features.rows is not None:
        starts = parts.train.store.starts
        numbers = numbers[np.isin(np.searchsorted(starts, places, side="right") - 1, features.rows)]
        places = train.words.taken(features.rows, starts)
    if len(places) > MOST_WORDS:
        chosen = np.sort(stratified_order(numbers, problem.seed)[:MOST_WORDS])
        cuts = (*cuts, f"states of {MOST_WORDS:,} of {len(places):,} words (seed {problem.seed})")
        places, numbers = places[chosen], numbers[chosen]
    held = [vectors(one[0].flat, made) for one, made in ((features.states.valid, valid), (features.states.test, test))]
    own = Parts(at(features.states.train[0].flat, places), *held)
    last = frozen(replace(problem, train=numbers), own, features.budget)
    if isinstance(last, Baseline):
        last = replace(last, cuts=(*cuts, *last.cuts), seconds=last.seconds + features.seconds)
    return last


def vectors(flat: Tensor, made: Pieces) -> np.ndarray:
    return at(flat, made.words.places)


def at(flat: Tensor, places: np.ndarray) -> np.ndarray:
    """The states at some tokens, fp32, words x hidden."""
    found: np.ndarray = flat[torch.from_numpy(places)].float().numpy()
    return found
