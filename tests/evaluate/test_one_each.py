"""What a model that gives any number of labels has to beat: shares, and one label against the rest."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from whet.evaluate.baselines import Absent, Baseline, Parts
from whet.evaluate.budget import Budget, Problem
from whet.evaluate.label_sets import scores
from whet.evaluate.one_each import frozen, shares, strata, tfidf
from whet.evaluate.thresholds import chosen

WORDS = {"water": ("drip", "leak"), "noise": ("loud", "bang"), "heat": ("cold", "radiator")}


def rows(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts with a word for each label that they have, among others."""
    chance = np.random.default_rng(seed)
    truth = (chance.random((count, 3)) < (0.5, 0.3, 0.2)).astype(np.int64)
    texts = [
        " ".join(["the", f"room{number % 7}", *(words[int(chance.integers(2))] for words, yes in
                  zip(WORDS.values(), row, strict=True) if yes)])
        for number, row in enumerate(truth)
    ]  # fmt: skip
    return texts, truth


def problem_of(train: np.ndarray, valid: np.ndarray, **options: object) -> Problem:
    def score(probabilities: np.ndarray, truth: np.ndarray) -> float:
        return scores(truth, chosen(truth, probabilities).given(probabilities), probabilities)["micro_f1"]

    return Problem(train=train, valid=valid, classes=3, score=score, strata=strata(train), **options)  # type: ignore[arg-type]


TRAIN, VALID, TEST = rows(120, 0), rows(40, 1), rows(30, 2)
TEXTS = Parts(TRAIN[0], VALID[0], TEST[0])
PROBLEM = problem_of(TRAIN[1], VALID[1])


def test_shares_are_those_of_the_training_rows() -> None:
    found = shares(PROBLEM, 30)
    assert found.name == "majority"
    assert found.valid.shape == (40, 3)
    assert (found.test == TRAIN[1].mean(0)).all()


def test_words_find_the_labels_that_they_stand_for() -> None:
    found = tfidf(PROBLEM, TEXTS, Budget())
    assert isinstance(found, Baseline)
    by = chosen(VALID[1], found.valid)
    assert scores(TEST[1], by.given(found.test), found.test)["micro_f1"] > 0.95
    assert found.settings["tried"] == 8
    again = tfidf(PROBLEM, TEXTS, Budget())
    assert isinstance(again, Baseline)
    assert (again.test == found.test).all()


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_each_label_is_a_logistic_regression_of_its_own(class_weight: str) -> None:
    chance = np.random.default_rng(3)
    vectors = Parts(
        *(chance.normal(size=(len(part[1]), 5)) + 2 * part[1] @ np.eye(3, 5) for part in (TRAIN, VALID, TEST))
    )
    found = frozen(problem_of(TRAIN[1], VALID[1], class_weight=class_weight), vectors, Budget())
    assert isinstance(found, Baseline)
    scaler = StandardScaler().fit(vectors.train)
    for label in range(3):
        weights = None if class_weight == "none" else class_weight
        one = LogisticRegression(C=found.settings["C"], class_weight=weights, max_iter=1000)
        one.fit(scaler.transform(vectors.train), TRAIN[1][:, label])
        expected = one.predict_proba(scaler.transform(vectors.test))[:, 1]
        np.testing.assert_allclose(found.test[:, label], expected, atol=1e-3)


def test_a_label_that_every_row_has_or_none_is_given_so() -> None:
    train = np.hstack([TRAIN[1][:, :1], np.ones((120, 1), int), np.zeros((120, 1), int)])
    valid = np.hstack([VALID[1][:, :1], np.ones((40, 1), int), np.zeros((40, 1), int)])
    found = tfidf(problem_of(train, valid), TEXTS, Budget())
    assert isinstance(found, Baseline)
    assert (found.test[:, 1] == 1).all()
    assert (found.test[:, 2] == 0).all()


def test_without_test_rows_there_are_probabilities_for_validation_alone() -> None:
    found = tfidf(PROBLEM, Parts(TRAIN[0], VALID[0], []), Budget())
    assert isinstance(found, Baseline)
    assert found.test.shape == (0, 3)


def test_where_no_time_is_left_the_reason_is_said() -> None:
    found = tfidf(PROBLEM, TEXTS, Budget(seconds=0))
    assert isinstance(found, Absent)
    assert "no time was left" in found.reason


def test_samples_are_drawn_by_the_rarest_label_of_a_row() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]])
    assert strata(truth).tolist() == [1, 0, 3, 2, 1]
