"""Scores of numbers, held against scikit-learn and scipy; intervals and comparisons by drawing rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from whet.errors import DataError
from whet.evaluate.numbers import number_scores, shown
from whet.evaluate.resampling import one_by_one, row_comparison, row_intervals
from whet.evaluate.ridge import strata

NUMBERS = st.floats(-1e4, 1e4).map(lambda value: round(value, 3))


def some(rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    truth = chance.normal(3, 2, rows)
    return truth, truth + noise * chance.normal(size=rows)


@given(arrays(float, st.tuples(st.just(2), st.integers(5, 40)), elements=NUMBERS, unique=True))
def test_the_scores_are_those_of_scikit_learn_and_scipy(values: np.ndarray) -> None:
    truth, predicted = values
    found = number_scores(truth, predicted, 2.0)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, predicted))
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, predicted))
    assert found["r2"] == pytest.approx(r2_score(truth, predicted), rel=1e-6)
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, predicted).statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(stats.pearsonr(truth, predicted).statistic, abs=1e-6)
    assert found["scaled_mse"] == pytest.approx(found["rmse"] ** 2 / 4)


def test_ties_get_their_mean_rank() -> None:
    truth, predicted = np.array([1.0, 2, 2, 3, 3, 3]), np.array([0.1, 0.1, 0.4, 0.2, 0.9, 0.9])
    assert number_scores(truth, predicted, 1.0)["spearman"] == pytest.approx(
        stats.spearmanr(truth, predicted).statistic
    )


def test_of_what_does_not_vary_nothing_is_known() -> None:
    truth = np.array([1.0, 2.0, 4.0])
    same = number_scores(truth, np.full(3, 1 / 3), 1.0)
    assert same["spearman"] == same["pearson"] == 0
    assert number_scores(np.full(3, 0.1), truth, 1.0)["r2"] == 0


def test_many_sets_of_rows_are_scored_at_once_as_one_by_one() -> None:
    draws = [some(30, 1.0, seed) for seed in range(7)]
    truth, predicted = (np.stack(side) for side in zip(*draws, strict=True))

    def one(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        return {name: float(value) for name, value in number_scores(a, b, 1.5).items()}

    every, each = number_scores(truth, predicted, 1.5), one_by_one(one)(truth, predicted)
    for name, values in each.items():
        assert every[name] == pytest.approx(values)


def measure(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    return number_scores(truth, predicted, 1.0)


@pytest.mark.slow
def test_the_intervals_hold_the_true_score_in_about_95_of_100_tests() -> None:
    """Of 200 tests of 150 rows each; the true scores are those of very many rows."""
    true = {name: float(value) for name, value in measure(*some(400_000, 1.0, 99)).items()}
    within = dict.fromkeys(true, 0)
    for seed in range(200):
        for name, found in row_intervals(measure, *some(150, 1.0, seed), seed=seed).items():
            within[name] += found.low <= true[name] <= found.high
    assert all(178 <= count <= 199 for count in within.values()), within


def test_equal_models_are_seldom_called_different() -> None:
    called = 0
    for seed in range(40):
        truth, ours = some(80, 1.0, seed)
        theirs = truth + np.random.default_rng(seed + 10_000).normal(size=80)
        called += row_comparison(measure, "spearman", ours, theirs, truth, seed=seed).p_value < 0.05
    assert called <= 7


def test_a_clear_difference_is_told_with_its_sign() -> None:
    truth, ours = some(100, 0.3, 1)
    _, theirs = some(100, 2.0, 1)
    found = row_comparison(measure, "rmse", ours, theirs, truth)
    assert found.high < 0
    assert found.p_value < 0.01
    turned = row_comparison(measure, "rmse", theirs, ours, truth)
    assert turned.difference == -found.difference
    assert found.only_ours_right is None


def test_a_model_is_no_different_from_itself() -> None:
    truth, ours = some(30, 1.0, 2)
    found = row_comparison(measure, "mae", ours, ours, truth)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_without_rows_or_with_other_rows_nothing_is_compared() -> None:
    none = np.zeros(0)
    with pytest.raises(DataError, match="there are none"):
        row_intervals(measure, none, none)
    with pytest.raises(DataError, match="the same rows"):
        row_comparison(measure, "mae", np.zeros(3), np.zeros(2), np.zeros(3))


def test_few_rows_are_warned_of() -> None:
    assert "only 6 test rows" in (row_intervals(measure, *some(6, 1.0, 0))["mae"].warning or "")
    assert row_intervals(measure, *some(60, 1.0, 0))["mae"].warning is None


def test_what_is_shown_names_the_rows_that_are_furthest_off() -> None:
    truth, predicted = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 0.0])
    found = shown(truth, predicted, (2, 3, 5), "price", 0)
    assert [one["row"] for one in found["far_off"]] == [5, 2, 3]
    assert found["mean_error"] == pytest.approx(-2.5 / 3)
    many = shown(*some(3000, 1.0, 0), tuple(range(3000)), "price", 0)
    assert (many["rows"], len(many["points"])) == (3000, 1000)


@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_equal_numbers_are_of_one_stratum_and_order_is_kept(values: list[float]) -> None:
    found = strata(np.array(values))
    assert found.max() <= 4
    pairs = sorted(zip(values, found.tolist(), strict=True))
    assert [part for _, part in pairs] == sorted(part for _, part in pairs)
    assert len(set(pairs)) == len(set(values))
