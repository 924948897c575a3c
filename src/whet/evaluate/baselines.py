"""What a fine-tuned text classifier has to beat: three baselines that are made without training the model.

Majority class; TF-IDF + logistic regression; frozen features of the same pretrained model + logistic regression
(a linear probe: Alain and Bengio 2017, Understanding intermediate layers using linear classifier probes).
Settings are chosen on the validation rows; of the test rows only probabilities are made.

A baseline may take no longer than its budget. What does not fit is cut in this order: fewer settings tried; single
words instead of words and pairs; a seeded sample of the training rows, with the first setting alone. Each cut is put
in words. Without a cut the result is a pure function of rows, options and seed.

N training rows, M validation rows, T test rows, H features, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from whet.evaluate.budget import Budget, Kind, Problem, Search, Unavailable

T_co = TypeVar("T_co", covariant=True)

TITLES = {
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic regression",
    "frozen": "frozen features + logistic regression",
}

TFIDF_STRENGTHS = (10.0, 30.0, 100.0, 3.0)
FROZEN_STRENGTHS = (0.01, 0.1, 1.0, 0.001)
"""Values of scikit-learn's C, those that are most often best first: a small budget tries only these."""

MOST_PASSES = 200
"""Passes over the rows after which a fit stops, settled or not. Those measured took 10 to 100."""

PROBE_ROWS, PROBE_CHARACTERS = 256, 200_000
"""Rows of the first fit that measures what others will take; of longer texts, as many as hold these characters."""


@dataclass(frozen=True)
class Parts(Generic[T_co]):
    """The same thing of training, validation and test rows: texts, or vectors (N x H, M x H, T x H). Test may be
    empty."""

    train: T_co
    valid: T_co
    test: T_co


@dataclass(frozen=True)
class Baseline:
    """Probabilities of a baseline: `valid` M x C, `test` T x C, a column for every class of the run.

    `settings` are those chosen, and `tried`, the number compared. `cuts` says in words what the budget did not allow.
    """

    name: str
    title: str
    settings: dict[str, float]
    cuts: tuple[str, ...]
    valid: np.ndarray
    test: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Absent:
    """A baseline that could not be made, and why."""

    name: str
    title: str
    reason: str


def majority(problem: Problem, test_rows: int) -> Baseline:
    """Every row gets the shares of the classes in the training rows. Its prediction is the commonest class, the first
    of those equally common; its log loss is that of knowing the shares alone."""
    begun = time.monotonic()
    shares = np.bincount(problem.train, minlength=problem.classes) / len(problem.train)
    valid, test = (np.tile(shares, (rows, 1)) for rows in (len(problem.valid), test_rows))
    settings: dict[str, float] = {"class": int(shares.argmax())}
    return Baseline("majority", TITLES["majority"], settings, (), valid, test, time.monotonic() - begun)


def tfidf(problem: Problem, texts: Parts[Sequence[str]], budget: Budget | None = None) -> Baseline | Absent:
    """Words and pairs of words, or words alone, by TF-IDF with 1 + log(tf); multinomial logistic regression by SAGA.
    `settings` holds `C` and `ngrams` (1 words, 2 also pairs).

    Words are runs of letters and digits in lower case, stop words among them. However rare, they count: without
    those of one row only, accuracy on three sets was a point and a half better or worse at most, and a set of 20 rows
    has few others. On the validation rows of SST-2 pairs were better by a point, on those of Emotion words alone by
    four, so validation decides.
    """
    kinds = tuple(words(texts, ngrams) for ngrams in (2, 1))
    return chosen("tfidf", TITLES["tfidf"], Search(problem, kinds, TFIDF_STRENGTHS, saga, budget or Budget()))


def frozen(problem: Problem, vectors: Parts[np.ndarray], budget: Budget | None = None) -> Baseline | Absent:
    """Vectors of the pretrained model, each feature standardised; multinomial logistic regression by L-BFGS.
    `settings` holds `C`."""
    return on_vectors("frozen", TITLES["frozen"], problem, vectors, budget or Budget())


def on_vectors(
    name: str, title: str, problem: Problem, vectors: Parts[np.ndarray], budget: Budget
) -> Baseline | Absent:
    """A logistic regression on any vectors."""
    return chosen(name, title, Search(problem, (standardised(vectors),), FROZEN_STRENGTHS, lbfgs, budget))


def chosen(name: str, title: str, search: Search) -> Baseline | Absent:
    """What a search finds, as a baseline."""
    begun = search.budget.now()
    try:
        found = search.choose()
    except Unavailable as why:
        return Absent(name, title, str(why))
    seconds = search.budget.now() - begun
    return Baseline(name, title, found.settings, found.cuts, found.valid, found.test, seconds)


def words(texts: Parts[Sequence[str]], ngrams: int) -> Kind:
    """Texts as TF-IDF of words, and of pairs of words where `ngrams` is 2."""

    def prepare(rows: np.ndarray) -> tuple[Any, Callable[[Any], Any]]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        # In single precision a fit takes four fifths of the time, and comes to the same.
        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, ngrams), token_pattern=r"\w+", dtype=np.float32)
        try:
            found = vectorizer.fit_transform([texts.train[row] for row in rows])
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            raise Unavailable(f"none of {len(rows):,} training texts holds a word") from error
        return found, vectorizer.transform

    work = np.array([len(text) + 1 for text in texts.train])
    return Kind(
        settings={"ngrams": ngrams},
        valid=texts.valid,
        test=texts.test,
        prepare=prepare,
        work=work,
        held_work=sum(len(text) + 1 for part in (texts.valid, texts.test) for text in part),
        probe=max(2, min(PROBE_ROWS, int(PROBE_CHARACTERS / work.mean()))),
        alone="single words only",
    )


def standardised(vectors: Parts[np.ndarray]) -> Kind:
    """Vectors with each feature standardised."""

    def prepare(rows: np.ndarray) -> tuple[Any, Callable[[Any], Any]]:
        from sklearn.preprocessing import StandardScaler

        train = vectors.train[rows]
        if not all(np.isfinite(part).all() for part in (train, vectors.valid, vectors.test)):
            raise Unavailable("the model's vectors hold values that are not finite numbers")
        # As they come, vectors of length 1 and of length 20 need other strengths, and on short ones L-BFGS takes the
        # small gradients for the end: with a tolerance of 0.01 it did not move at all.
        scaler = StandardScaler().fit(train)
        return scaler.transform(train), scaler.transform

    return Kind(
        settings={},
        valid=vectors.valid,
        test=vectors.test,
        prepare=prepare,
        work=np.ones(len(vectors.train)),
        held_work=len(vectors.valid) + len(vectors.test),
        probe=PROBE_ROWS,
    )


def saga(strength: float, targets: np.ndarray, problem: Problem) -> Any:
    """Multinomial logistic regression by SAGA (Defazio, Bach and Lacoste-Julien 2014).

    Measured on one core, 8,503 rows of BANKING77 (77 classes, 21,467 words and pairs), seconds of a fit: SAGA 0.6;
    one-vs-rest with SGD 1.0, with liblinear 1.4; newton-cg 4; L-BFGS 6 and more, since its dense vectors hold a number
    for every class and word. With two classes all take 0.2 at most. A tolerance of 0.01 ends SAGA after 10 to 40
    passes; 0.001 took up to seven times as many for the same accuracy.
    """
    from sklearn.linear_model import LogisticRegression

    weights, largest = None, 1.0
    if problem.class_weight == "balanced":
        present, counts = np.unique(targets, return_counts=True)
        balanced = len(targets) / (len(present) * counts)
        # SAGA's step does not know of weights: above 1 they make it diverge. Weights of at most 1, with C larger by
        # the same factor, are the same objective. Most rows then weigh little, and a step moves less.
        largest = float(balanced.max())
        weights = dict(zip(present.tolist(), balanced / largest, strict=True))
    return LogisticRegression(
        C=strength * largest,
        class_weight=weights,
        solver="saga",
        tol=max(1e-3, 1e-2 / largest),
        max_iter=MOST_PASSES,
        random_state=problem.seed,
    )


def lbfgs(strength: float, targets: np.ndarray, problem: Problem) -> Any:
    """Multinomial logistic regression by L-BFGS.

    Each strength is begun afresh. Begun from the one before, L-BFGS found the gradient small enough and did not move:
    on SST-2 and BANKING77 a C of 100 gave the very weights of 10, so that the choice hung on what had been tried.
    """
    from sklearn.linear_model import LogisticRegression

    weights = "balanced" if problem.class_weight == "balanced" else None
    return LogisticRegression(C=strength, class_weight=weights, max_iter=MOST_PASSES)
