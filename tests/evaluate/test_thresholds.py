"""Thresholds: the best F1 there is, from validation rows alone, one per label where enough rows tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from whet.evaluate.thresholds import FLOOR, GRID, Thresholds, best, chosen, curve

fewer = settings(deadline=None, max_examples=100)
decisions = st.lists(st.tuples(st.booleans(), st.integers(0, 20).map(lambda n: n / 20)), min_size=1, max_size=40)


@fewer
@given(decisions)
def test_no_other_threshold_has_a_better_f1(rows: list[tuple[bool, float]]) -> None:
    truth, probabilities = (np.array(column) for column in zip(*rows, strict=True))
    found = best(truth, probabilities)
    ours = f1_score(truth, probabilities >= found, zero_division=0)
    every = [f1_score(truth, probabilities >= t, zero_division=0) for t in np.linspace(0.001, 1, 41)]
    assert ours == pytest.approx(max(every)) or not truth.any()


def test_it_stands_half_way_between_what_is_given_and_what_is_not() -> None:
    assert best(np.array([1, 1, 0, 0]), np.array([0.9, 0.7, 0.3, 0.1])) == pytest.approx(0.5)
    assert best(np.array([1, 1, 0, 0]), np.array([0.3, 0.2, 0.1, 0.05])) == pytest.approx(0.15)
    # All rows have the label: all are given it.
    assert best(np.array([1, 1]), np.array([0.4, 0.2])) == pytest.approx(0.1)


def test_where_no_row_has_the_label_it_is_a_half() -> None:
    assert best(np.array([0, 0]), np.array([0.9, 0.1])) == 0.5
    assert best(np.array([1, 0]), np.array([0.0, 0.0])) == 0.5


def test_all_labels_share_one_unless_asked_and_those_with_few_rows_even_then() -> None:
    chance = np.random.default_rng(0)
    truth = np.zeros((100, 3), int)
    truth[:FLOOR, 0] = 1
    truth[: FLOOR - 1, 1] = 1
    truth[: 100 - FLOOR + 1, 2] = 1
    probabilities = 0.3 * truth + 0.5 * chance.random((100, 3))
    one = best(truth.ravel(), probabilities.ravel())
    assert chosen(truth, probabilities) == Thresholds((one,) * 3, (True,) * 3)
    found = chosen(truth, probabilities, per_label=True)
    assert found.common == (False, True, True)
    assert found.values[0] == best(truth[:, 0], probabilities[:, 0])
    assert found.values[1] == found.values[2] == one


def test_thresholds_give_labels_from_themselves_on() -> None:
    given_labels = Thresholds((0.2, 0.6), (False, True)).given(np.array([[0.2, 0.6], [0.1, 0.59], [0.3, 0.1]]))
    assert given_labels.tolist() == [[True, True], [False, False], [True, False]]


def test_a_curve_holds_the_scores_at_each_threshold() -> None:
    truth, probabilities = np.array([1, 1, 0, 0, 1]), np.array([0.9, 0.35, 0.6, 0.1, 0.05])
    found = curve(truth, probabilities)
    for place in (4, 34, 59, 98):
        f1 = f1_score(truth, probabilities >= GRID[place], zero_division=0)
        assert found["f1"][place] == pytest.approx(f1, abs=1e-4)
    assert found["recall"][0] == 1.0
    assert found["precision"][98] == 0.0
