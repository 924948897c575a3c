"""What a tagger has to beat: the most frequent tag of each word, and frozen states of the words under a logistic
regression. N training words, M validation words, T test words, C tags."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from whet.evaluate.baselines import Baseline
from whet.evaluate.budget import Problem

TITLE = "most frequent tag per word"
SUFFIX = 3
PRIOR = 0.1
"""Words that the overall shares of the tags count for beside those of the word itself, in its probabilities."""


def word_tag(problem: Problem, train: Sequence[str], valid: Sequence[str], test: Sequence[str]) -> Baseline:
    """Each word gets the shares of the tags that it has in the training sentences; one that they lack those of its
    lower case; else those of words with its last three letters and its shape; else those of all words.

    The prediction is the most frequent tag; of those equally frequent, the one that is more frequent among all words.
    """
    begun = time.monotonic()
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for word, tag in zip(train, problem.train.tolist(), strict=True):
        for key in keys(word):
            counts[key][tag] += 1
    shares = np.bincount(problem.train, minlength=problem.classes) / len(problem.train)
    known: dict[str, np.ndarray] = {}
    for key, tags in counts.items():
        own = np.bincount(list(tags), list(tags.values()), minlength=problem.classes)
        # Below 1, so that it decides only between tags that a word has equally often.
        known[key] = (own + PRIOR * shares) / (own.sum() + PRIOR)

    def of(words: Sequence[str]) -> np.ndarray:
        made = np.empty((len(words), problem.classes))
        for number, word in enumerate(words):
            made[number] = next((known[key] for key in keys(word) if key in known), shares)
        return made

    found, held = of(valid), of(test)
    return Baseline("majority", TITLE, {"words": len(set(train))}, (), found, held, time.monotonic() - begun)


def keys(word: str) -> Iterator[str]:
    """What a word is looked up by, the surest first."""
    yield f"word {word}"
    yield f"lower {word.lower()}"
    yield f"end {shape(word)} {word[-SUFFIX:].lower()}"


def shape(word: str) -> str:
    """Which of capital first, other capitals, digits and other signs than letters a word has."""
    marks = (
        ("C", word[:1].isupper()),
        ("c", any(letter.isupper() for letter in word[1:])),
        ("d", any(letter.isdigit() for letter in word)),
        ("s", not word.isalnum()),
    )
    return "".join(mark for mark, has in marks if has)
