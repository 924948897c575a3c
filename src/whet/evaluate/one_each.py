"""What a model that gives any number of labels has to beat: the share of each label, and a logistic regression of each
label against the rest, on words or on frozen features. Settings are chosen on the validation rows for all labels alike;
of the test rows only probabilities are made.

Targets are rows x labels, 1 where a row has a label; each baseline's `valid` and `test` are M x L and T x L.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.evaluate.baselines import (
    FROZEN_STRENGTHS,
    MOST_PASSES,
    TFIDF_STRENGTHS,
    TITLES,
    Absent,
    Baseline,
    Parts,
    chosen,
    standardised,
    words,
)
from whet.evaluate.budget import Budget, Problem, Search


def shares(problem: Problem, test_rows: int) -> Baseline:
    """Every row gets the shares of the training rows that have each label."""
    begun = time.monotonic()
    found = problem.train.mean(0)
    valid, test = (np.tile(found, (rows, 1)) for rows in (len(problem.valid), test_rows))
    return Baseline("majority", "each label's share", {}, (), valid, test, time.monotonic() - begun)


def tfidf(problem: Problem, texts: Parts[Sequence[str]], budget: Budget) -> Baseline | Absent:
    """Words and pairs of words, or words alone, by TF-IDF with 1 + log(tf)."""
    kinds = tuple(words(texts, ngrams) for ngrams in (2, 1))
    return chosen("tfidf", TITLES["tfidf"], Search(problem, kinds, TFIDF_STRENGTHS, _liblinear, budget, _probabilities))


def frozen(problem: Problem, vectors: Parts[np.ndarray], budget: Budget) -> Baseline | Absent:
    """Vectors of the pretrained model, each feature standardised."""
    search = Search(problem, (standardised(vectors),), FROZEN_STRENGTHS, _lbfgs, budget, _probabilities)
    return chosen("frozen", TITLES["frozen"], search)


def strata(truth: np.ndarray) -> np.ndarray:
    """What samples are drawn by: for each row its rarest label (N), or the number of labels where it has none."""
    rarest = truth * (len(truth) + 1 - truth.sum(0))
    return np.where(truth.any(1), rarest.argmax(1), truth.shape[1])


def _liblinear(strength: float, targets: np.ndarray, problem: Problem) -> Any:
    return _against_the_rest(strength, problem, "liblinear")


def _lbfgs(strength: float, targets: np.ndarray, problem: Problem) -> Any:
    return _against_the_rest(strength, problem, "lbfgs")


def _against_the_rest(strength: float, problem: Problem, solver: str) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    weights = "balanced" if problem.class_weight == "balanced" else None
    one = LogisticRegression(
        C=strength, class_weight=weights, solver=solver, max_iter=MOST_PASSES, random_state=problem.seed
    )
    return OneVsRestClassifier(one)


def _probabilities(model: Any, features: Any, classes: int) -> np.ndarray:
    """Rows x labels; no rows, which scikit-learn refuses, are None."""
    return np.zeros((0, classes)) if features is None else np.asarray(model.predict_proba(features))
