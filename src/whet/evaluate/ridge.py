"""What a model of numbers has to beat: the mean, and ridge regressions (Hoerl and Kennard 1970) on words or on frozen
features. Settings are chosen on the validation rows; of the test rows only predictions are made.

Targets are numbers; each baseline's `valid` and `test` are M and T predictions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.evaluate.baselines import Absent, Baseline, Parts, chosen, standardised, words
from whet.evaluate.budget import Budget, Kind, Problem, Search, numbers

TITLES = {
    "mean": "mean of the training rows",
    "tfidf": "TF-IDF + ridge regression",
    "frozen": "frozen features + ridge regression",
}
TFIDF_STRENGTHS = (1.0, 3.0, 0.3, 10.0)
FROZEN_STRENGTHS = (300.0, 30.0, 1000.0, 3000.0, 3.0)
"""Values of scikit-learn's alpha; a small budget tries only the first."""
MOST_PASSES = 500


def mean(problem: Problem, test_rows: int) -> Baseline:
    """Every row gets the mean of the training rows."""
    begun = time.monotonic()
    value = float(problem.train.mean())
    valid, test = (np.full(rows, value) for rows in (len(problem.valid), test_rows))
    return Baseline("mean", TITLES["mean"], {"mean": value}, (), valid, test, time.monotonic() - begun)


def tfidf(problem: Problem, texts: Parts[Sequence[str]], budget: Budget) -> Baseline | Absent:
    """Words and pairs of words, or words alone, by TF-IDF with 1 + log(tf)."""
    return on_words("tfidf", TITLES["tfidf"], problem, tuple(words(texts, ngrams) for ngrams in (2, 1)), budget)


def on_words(name: str, title: str, problem: Problem, kinds: tuple[Kind, ...], budget: Budget) -> Baseline | Absent:
    """Ridge regression on sparse features of any kind."""
    return chosen(name, title, Search(problem, kinds, TFIDF_STRENGTHS, _ridge, budget, numbers, "alpha"))


def on_vectors(
    name: str, title: str, problem: Problem, vectors: Parts[np.ndarray], budget: Budget
) -> Baseline | Absent:
    """Ridge regression on vectors with each feature standardised."""
    strengths = FROZEN_STRENGTHS if vectors.train.shape[1] > 1 else (0.01,)
    return chosen(name, title, Search(problem, (standardised(vectors),), strengths, _ridge, budget, numbers, "alpha"))


def _ridge(strength: float, targets: np.ndarray, problem: Problem) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=strength, max_iter=MOST_PASSES)


def strata(numbers_: np.ndarray, parts: int = 5) -> np.ndarray:
    """Which fifth of the rows each number belongs to, by rank: 0 to 4. Equal numbers are of one fifth."""
    edges = np.quantile(numbers_, np.arange(1, parts) / parts)
    return np.searchsorted(np.unique(edges), numbers_, side="right")
