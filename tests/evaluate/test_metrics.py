"""Scores are those of scikit-learn, whatever the rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from whet.evaluate.metrics import classification


@pytest.mark.parametrize("classes", [2, 6, 77])
@pytest.mark.parametrize("rows", [1, 2, 7, 200])
def test_scores_are_those_of_scikit_learn(classes: int, rows: int) -> None:
    chance = np.random.default_rng([classes, rows])
    for _ in range(20):
        truth = chance.integers(0, classes, rows)
        probabilities = chance.dirichlet(np.full(classes, 0.3), rows)
        predicted = probabilities.argmax(1)
        found = classification(truth, probabilities)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows that are all of one label
            assert found["mcc"] == pytest.approx(oracle.matthews_corrcoef(truth, predicted))
        assert found["accuracy"] == oracle.accuracy_score(truth, predicted)
        assert found["macro_f1"] == pytest.approx(
            oracle.f1_score(truth, predicted, average="macro", zero_division=0), abs=1e-12
        )
        own = oracle.log_loss(truth, np.maximum(probabilities, 1e-12), labels=np.arange(classes))
        assert found["log_loss"] == pytest.approx(own, rel=1e-6)
