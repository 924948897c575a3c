"""Scores of entities: held against seqeval, which is another's reading of the same definition."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score

from whet.data.schemes import Entity, entities, every_tag, in_bio
from whet.evaluate.entities import FOUND, PREDICTED, TRUE, by_type, f1, micro_f1, mistakes, tallies, types_of
from whet.evaluate.transitions import likeliest

TAGS = every_tag(["B-PER", "I-LOC"])
TYPES = types_of(TAGS)
pairs = st.integers(0, 7).flatmap(
    lambda size: st.tuples(*(st.lists(st.sampled_from(TAGS), min_size=size, max_size=size) for _ in range(2)))
)
documents = st.lists(pairs, min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(documents)
def test_scores_are_those_of_seqeval(rows: list[tuple[list[str], list[str]]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval's, on types that only one side has
        truth, predicted = [row[0] for row in rows], [row[1] for row in rows]
        counts = tallies(truth, predicted, TYPES)
        there = bool(counts.sum())
        theirs = f1_score(truth, predicted, zero_division=0) if there else 0.0
        assert float(micro_f1(counts.sum(0))) == pytest.approx(theirs)
        report = classification_report(truth, predicted, output_dict=True, zero_division=0) if there else {}
    for row in by_type(counts.sum(0), TYPES):
        own = report.get(row["label"], {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert (row["precision"], row["recall"], row["f1"], row["support"]) == pytest.approx(
            (own["precision"], own["recall"], own["f1-score"], own["support"])
        )


@settings(deadline=None, max_examples=50)
@given(documents)
def test_every_entity_is_a_match_or_in_one_mistake(rows: list[tuple[list[str], list[str]]]) -> None:
    truth, predicted = [row[0] for row in rows], [row[1] for row in rows]
    counts, found = tallies(truth, predicted, TYPES).sum((0, 1)), mistakes(truth, predicted)
    assert sum(one.truth is not None for one in found) == counts[TRUE] - counts[FOUND]
    assert sum(one.predicted is not None for one in found) == counts[PREDICTED] - counts[FOUND]
    for one in found:
        assert (one.truth is None) == (one.kind == "spurious")
        assert (one.predicted is None) == (one.kind == "missed")
        assert one.truth != one.predicted


def test_each_kind_of_mistake_has_its_name() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC", "O", "O"]]
    for predicted, kind, pair in (
        (["O", "O", "O", "B-LOC", "O", "O"], "missed", (Entity(0, 2, "PER"), None)),
        (["B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC"], "spurious", (None, Entity(5, 6, "LOC"))),
        (["B-PER", "O", "O", "B-LOC", "O", "O"], "wrong border", (Entity(0, 2, "PER"), Entity(0, 1, "PER"))),
        (["B-LOC", "I-LOC", "O", "B-LOC", "O", "O"], "wrong type", (Entity(0, 2, "PER"), Entity(0, 2, "LOC"))),
    ):
        (one,) = mistakes(truth, [predicted])
        assert (one.kind, (one.truth, one.predicted)) == (kind, pair)


def test_of_several_that_share_words_the_one_of_the_same_type_is_meant() -> None:
    truth, predicted = [["B-PER", "B-LOC", "I-LOC"]], [["B-LOC", "I-LOC", "O"]]
    kinds = {(one.kind, one.truth) for one in mistakes(truth, predicted)}
    assert kinds == {("wrong border", Entity(1, 3, "LOC")), ("missed", Entity(0, 1, "PER"))}


def test_nothing_to_find_and_nothing_found_is_no_error() -> None:
    assert f1(np.zeros(3)) == 0


def best_by_trying(scores: np.ndarray) -> tuple[float, list[str]]:
    """The likeliest valid sequence, of all there are."""
    every = itertools.product(range(len(TAGS)), repeat=len(scores))
    valid = [path for path in every if not in_bio([[TAGS[tag] for tag in path]], "BIO").invalid]
    total = {path: float(sum(scores[word, tag] for word, tag in enumerate(path))) for path in valid}
    best = max(valid, key=lambda path: total[path])
    return total[best], [TAGS[tag] for tag in best]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_decoding_gives_the_likeliest_of_all_valid_sequences(seed: int, lengths: list[int]) -> None:
    scores = np.random.default_rng(seed).normal(size=(sum(lengths), len(TAGS)))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    made = likeliest(scores, starts, TAGS)
    for start, end in itertools.pairwise(starts.tolist()):
        own = [TAGS[tag] for tag in made[start:end]]
        if own:
            total, best = best_by_trying(scores[start:end])
            assert own == best
            assert float(scores[np.arange(start, end), made[start:end]].sum()) == pytest.approx(total)


def test_decoding_what_is_valid_already_changes_nothing() -> None:
    tags = ["O", "B-PER", "I-PER", "B-LOC"]
    scores = np.full((4, len(TAGS)), -5.0)
    scores[np.arange(4), [TAGS.index(tag) for tag in tags]] = 0
    made: Any = likeliest(scores, np.array([0, 4]), TAGS)
    assert [TAGS[tag] for tag in made] == tags
    assert entities(tags) == [Entity(1, 3, "PER"), Entity(3, 4, "LOC")]
