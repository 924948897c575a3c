"""Scores of any number of labels a row beside scikit-learn's; intervals; comparisons; the surest mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from whet.errors import DataError
from whet.evaluate.label_sets import per_label, score_intervals, scores, slips
from whet.evaluate.paired import MCNEMAR
from whet.evaluate.paired_sets import Predicted, compare_sets

fewer = settings(deadline=None, max_examples=60)
sizes = st.tuples(st.integers(1, 12), st.integers(2, 4))


@st.composite
def decided(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = draw(sizes)
    truth = draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 1)))
    probabilities = draw(arrays.arrays(np.float64, shape, elements=st.floats(0.01, 0.99)))
    return truth, probabilities >= 0.5, probabilities


@fewer
@given(decided())
def test_scores_are_those_of_scikit_learn(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, labels, probabilities = rows
    found = scores(truth, labels, probabilities)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(truth, labels, average="micro", zero_division=0))
    if truth.any() or labels.any():
        macro = sk.f1_score(truth, labels, average="macro", zero_division=np.nan)
        assert found["macro_f1"] == pytest.approx(macro)
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(truth, labels))
    each = [
        sk.log_loss(truth[:, n], np.stack([1 - probabilities[:, n], probabilities[:, n]], 1), labels=[0, 1])
        for n in range(truth.shape[1])
    ]
    assert found["log_loss"] == pytest.approx(np.mean(each))


@fewer
@given(decided())
def test_figures_per_label_are_those_of_scikit_learn(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, labels, _ = rows
    names = tuple(f"label{number}" for number in range(truth.shape[1]))
    columns = sk.precision_recall_fscore_support(truth, labels, average=None, zero_division=0)
    for row, precision, recall, f1, support in zip(per_label(truth, labels, names), *columns, strict=True):
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx([precision, recall, f1])
        assert row["support"] == support
        assert row["support"] - row["missed"] == row["predicted"] - row["spurious"]
        for name in ("precision", "recall", "f1"):
            around = row["intervals"][name]
            assert around is None or around["low"] <= row[name] <= around["high"]


def noisy(rows: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three labels of different frequency; a share of all decisions is wrong."""
    chance = np.random.default_rng(seed)
    truth = (chance.random((rows, 3)) < (0.5, 0.2, 0.1)).astype(np.int8)
    flipped = chance.random((rows, 3)) < wrong
    probabilities = np.where(truth.astype(bool) != flipped, 0.8, 0.2)
    return truth, probabilities >= 0.5, probabilities


def test_intervals_hold_the_score_and_shrink_with_rows() -> None:
    widths = []
    for rows in (100, 1600):
        found, ours = score_intervals(*noisy(rows, 0.1)), scores(*noisy(rows, 0.1))
        assert set(found) == set(ours)
        assert all(one.low <= ours[name] <= one.high for name, one in found.items())
        widths.append(found["micro_f1"].high - found["micro_f1"].low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)


def test_intervals_are_the_same_for_the_same_seed() -> None:
    found = [score_intervals(*noisy(60, 0.2), seed=seed)["micro_f1"] for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_intervals_say_where_they_may_be_too_narrow() -> None:
    perfect = score_intervals(*noisy(40, 0.0))
    assert perfect["micro_f1"].warning == "may be too narrow: only 0 test rows have a mistake"
    truth, labels, probabilities = noisy(100, 0.2)
    rare = np.zeros((100, 1), np.int8)
    rare[:2] = 1
    found = score_intervals(
        np.hstack([truth, rare]), np.hstack([labels, rare]), np.hstack([probabilities, 0.6 * rare + 0.2])
    )
    assert found["macro_f1"].warning == "may be too narrow: 1 of 4 labels has fewer than 5 test rows"
    assert found["micro_f1"].warning is None
    with pytest.raises(DataError):
        score_intervals(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)))


@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1", "exact_match", "log_loss"])
def test_a_better_model_is_told_from_a_worse_one_and_an_equal_one_is_not(metric: str) -> None:
    truth, labels, probabilities = noisy(400, 0.05)
    _, others, theirs = noisy(400, 0.25)
    ours = Predicted(labels, probabilities)
    found = compare_sets(metric, ours, Predicted(others, theirs), truth)
    mine, their_scores = scores(truth, labels, probabilities), scores(truth, others, theirs)
    assert found.difference == pytest.approx(mine[metric] - their_scores[metric])
    assert found.p_value < 0.01
    assert (found.low > 0) == (found.high > 0)
    assert found.low <= found.difference <= found.high
    assert found.only_ours_right > found.only_theirs_right
    assert (found.test == MCNEMAR) == (metric == "exact_match")
    same = compare_sets(metric, ours, ours, truth)
    assert same.difference == 0
    assert same.p_value == 1
    assert same.low <= 0 <= same.high


def test_models_are_compared_on_the_same_rows() -> None:
    truth, labels, probabilities = noisy(4, 0.1)
    with pytest.raises(DataError, match="4 and 3 predictions for 4 rows"):
        compare_sets("micro_f1", Predicted(labels, probabilities), Predicted(labels[:3], probabilities[:3]), truth)


def test_the_surest_mistakes_come_first() -> None:
    truth = np.array([[1, 0], [1, 0], [0, 1]])
    probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.7, 0.8]])
    found = slips(truth, probabilities >= 0.5, probabilities, ("a", "b"), 5)
    assert [(one.index, one.label, one.missed) for one in found] == [
        (1, "a", True),
        (0, "a", True),
        (1, "b", False),
        (2, "a", False),
        (0, "b", False),
    ]
    assert found[0].probability == pytest.approx(0.1)
    assert len(slips(truth, probabilities >= 0.5, probabilities, ("a", "b"), 1)) == 2
