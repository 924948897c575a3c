"""The most frequent tag of each word: what words are looked up by, and what unknown ones get."""

from __future__ import annotations

import numpy as np
import pytest

from whet.evaluate.budget import Problem
from whet.evaluate.tag_baselines import shape, word_tag

NOUN, VERB, NAME = range(3)
WORDS = ["run", "run", "run", "May", "may", "may", "Berlin", "Dublin", "walking", "talking", "of"]
TAGS = [VERB, VERB, NOUN, NAME, VERB, VERB, NAME, NAME, VERB, VERB, NOUN]


def tags_of(words: list[str]) -> list[int]:
    problem = Problem(train=np.array(TAGS), valid=np.zeros(0, int), classes=3, score=lambda *_: 0.0)
    found = word_tag(problem, WORDS, words, [])
    assert found.valid.sum(1) == pytest.approx(np.ones(len(words)))
    assert found.test.shape == (0, 3)
    return [int(tag) for tag in found.valid.argmax(1)]


def test_a_word_gets_its_most_frequent_tag_in_its_own_spelling_first() -> None:
    assert tags_of(["run", "May", "may", "of"]) == [VERB, NAME, VERB, NOUN]


def test_an_unknown_spelling_is_looked_up_in_lower_case() -> None:
    assert tags_of(["RUN", "MAY"]) == [VERB, VERB]


def test_an_unknown_word_gets_the_tag_of_words_that_end_and_look_like_it() -> None:
    assert tags_of(["Merlin", "baking"]) == [NAME, VERB]


def test_one_like_no_other_gets_the_most_frequent_tag_of_all() -> None:
    assert tags_of(["xyzzy", "99", ""]) == [VERB, VERB, VERB]


@pytest.mark.parametrize(
    ("word", "said"), [("Abc", "C"), ("aBc", "c"), ("ABC", "Cc"), ("a1", "d"), ("a-b", "s"), ("", "s")]
)
def test_the_shape_of_a_word(word: str, said: str) -> None:
    assert shape(word) == said
