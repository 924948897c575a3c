"""The general English that forgetting is measured on is whole, without repetitions, and goes with the package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

import whet
from whet.evaluate.general_text import FOLDER, pairs, paragraphs


def test_there_are_enough_pairs_of_every_degree_of_likeness() -> None:
    found = pairs()
    assert len(found.left) == len(found.right) == len(found.scores) >= 200
    assert found.scores.min() == 0
    assert found.scores.max() == 5
    assert np.histogram(found.scores, bins=[0, 1, 2, 3, 4, 5.1])[0].min() >= 30


def test_no_sentence_and_no_paragraph_stands_there_twice() -> None:
    for texts in (pairs().sentences, paragraphs()):
        folded = Counter(" ".join(text.casefold().split()) for text in texts)
        assert [text for text, count in folded.items() if count > 1] == []


def test_left_and_right_sentences_are_all_there_in_order() -> None:
    found = pairs()
    assert found.sentences == (*found.left, *found.right)
    assert all(sentence == sentence.strip() != "" for sentence in found.sentences)


def test_paragraphs_are_about_as_long_as_they_are_said_to_be() -> None:
    words = [len(paragraph.split()) for paragraph in paragraphs()]
    assert len(words) >= 120
    assert min(words) >= 50
    assert max(words) <= 120
    assert 70 <= np.mean(words) <= 90


def test_the_texts_lie_inside_the_package() -> None:
    assert Path(str(FOLDER)).is_relative_to(Path(whet.__file__).parent)
    assert {"pairs.csv", "paragraphs.txt"} <= {path.name for path in FOLDER.iterdir()}
