"""Two models on the same rows: the difference, its interval, and how often chance passes for one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import f1_score
from sklearn.metrics import matthews_corrcoef as mcc

from whet.errors import DataError
from whet.evaluate.metrics import classification
from whet.evaluate.paired import MCNEMAR, Comparison, compare, rows_to_tell

METRICS = ("accuracy", "macro_f1", "mcc", "log_loss")
Pair = tuple[np.ndarray, np.ndarray, np.ndarray]


def certain(predicted: np.ndarray, labels: int) -> np.ndarray:
    return 0.9 * np.eye(labels)[predicted] + 0.1 / labels


def pair(
    rng: np.random.Generator, rows: int, shares: tuple[float, ...], ours: float, theirs: float, agreement: float
) -> Pair:
    """Two models right in these shares of the rows. In a share `agreement` of the rows luck is one for both."""
    labels = len(shares)
    truth = rng.choice(labels, rows, p=shares)
    luck, elsewhere = rng.random((2, rows)), rng.integers(1, labels, (2, rows))
    same = rng.random(rows) < agreement
    luck[1], elsewhere[1] = np.where(same, luck[0], luck[1]), np.where(same, elsewhere[0], elsewhere[1])
    right = luck < np.array([[ours], [theirs]])
    predicted = np.where(right, truth, (truth + elsewhere) % labels)
    return certain(predicted[0], labels), certain(predicted[1], labels), truth


def some_pair(seed: int = 0, rows: int = 400, ours: float = 0.85, theirs: float = 0.8) -> Pair:
    return pair(np.random.default_rng(seed), rows, (0.5, 0.3, 0.2), ours, theirs, 0.5)


def many_pairs(number: int, rows: int, ours: float, theirs: float) -> Iterator[Pair]:
    rng = np.random.default_rng(rows)
    for _ in range(number):
        yield pair(rng, rows, (0.4, 0.3, 0.2, 0.1), ours, theirs, 0.6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_is_that_of_the_scores(metric: str) -> None:
    ours, theirs, truth = some_pair()
    found = compare(metric, ours, theirs, truth)
    scores = [classification(truth, one)[metric] for one in (ours, theirs)]
    assert found.difference == pytest.approx(scores[0] - scores[1])
    assert found.low < found.difference < found.high
    right, theirs_right = ours.argmax(1) == truth, theirs.argmax(1) == truth
    assert found.only_ours_right - found.only_theirs_right == right.sum() - theirs_right.sum()
    assert found.rows == 400


def test_mcnemars_p_value_is_that_of_coins() -> None:
    """9 rows only ours has right and 2 only theirs: 11 coins, 9 or more heads or as many tails."""
    truth = np.zeros(50, dtype=int)
    ours, theirs = np.zeros(50, dtype=int), np.zeros(50, dtype=int)
    theirs[:9], ours[9:11] = 1, 1
    found = compare("accuracy", certain(ours, 2), certain(theirs, 2), truth)
    assert (found.only_ours_right, found.only_theirs_right) == (9, 2)
    assert found.p_value == pytest.approx(2 * sum(math.comb(11, k) for k in (9, 10, 11)) / 2**11)
    # Agresti and Min: Wald's interval of 9.5 and 2.5 among 52.
    half = 1.959964 * math.sqrt(12 - 7**2 / 52) / 52
    assert (found.low, found.high) == pytest.approx((7 / 52 - half, 7 / 52 + half), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_changing_sides_turns_the_sign(metric: str) -> None:
    ours, theirs, truth = some_pair()
    one, other = compare(metric, ours, theirs, truth), compare(metric, theirs, ours, truth)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value, abs=0.02)


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_is_no_different_from_itself(metric: str) -> None:
    ours, _, truth = some_pair()
    found = compare(metric, ours, ours, truth)
    assert (found.difference, found.p_value) == (0, 1)
    assert found.low <= 0 <= found.high
    assert rows_to_tell(found) is None


@pytest.mark.parametrize("metric", METRICS)
def test_a_large_difference_is_told(metric: str) -> None:
    found = compare(metric, *some_pair(ours=0.95, theirs=0.75))
    assert found.p_value < 0.001
    assert found.low * found.high > 0


def test_a_lower_loss_is_a_negative_difference() -> None:
    truth = np.arange(300) % 2
    sure = np.where(np.arange(300) % 10, 0.9, 0.2)
    ours = np.where(truth[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None])
    found = compare("log_loss", ours, np.full((300, 2), 0.5), truth)
    assert found.high < 0


@given(st.integers(0, 1000), st.sampled_from(METRICS))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_comparison(seed: int, metric: str) -> None:
    models = some_pair(seed, rows=60)
    assert compare(metric, *models, seed=seed) == compare(metric, *models, seed=seed)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_equal_models_are_seldom_called_different(metric: str) -> None:
    """At most 5 % are expected; 400 pairs add 2 points to that, two standard deviations."""
    called = [compare(metric, *one, seed=n).p_value < 0.05 for n, one in enumerate(many_pairs(400, 300, 0.8, 0.8))]
    assert 0.01 < np.mean(called) < 0.07


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc"])
def test_the_interval_holds_the_true_difference_in_95_percent(metric: str) -> None:
    # Of 200,000 rows: what remains of chance is a twentieth of an interval's width.
    true = compare(metric, *next(many_pairs(1, 200_000, 0.85, 0.8))).difference
    found = [compare(metric, *one) for one in many_pairs(300, 300, 0.85, 0.8)]
    assert 0.91 < np.mean([one.low <= true <= one.high for one in found]) < 0.98


@pytest.mark.parametrize(("only_ours", "only_theirs"), [(100, 50), (50, 20), (200, 100), (30, 10)])
def test_that_many_rows_tell_four_times_out_of_five(only_ours: int, only_theirs: int) -> None:
    """The exact chance: over all numbers of differing rows, and all ways in which they fall to ours and theirs."""
    differing = only_ours + only_theirs
    seen = Comparison("accuracy", MCNEMAR, (only_ours - only_theirs) / 1000, 0, 0, 1, only_ours, only_theirs, 1000)
    rows = rows_to_tell(seen)
    assert rows is not None
    told = 0.0
    for count in range(1, rows + 1):
        chance = binom.pmf(count, rows, differing / 1000)
        if chance > 1e-6:
            ours = np.arange(count + 1)
            called = 2 * binom.cdf(np.minimum(ours, count - ours), count, 0.5) < 0.05
            told += chance * binom.pmf(ours, count, only_ours / differing)[called].sum()
    assert told == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("metric", "score"), [("macro_f1", partial(f1_score, average="macro")), ("mcc", mcc)])
def test_the_p_value_is_the_share_of_all_exchanges(metric: str, score: Callable[..., float]) -> None:
    """Ten rows differ, so 1,024 exchanges are all there are."""
    rng = np.random.default_rng(4)
    truth = np.arange(45) % 3
    truth[20:30] = 0
    ours = truth.copy()
    ours[:6] = (truth[:6] + 1) % 3
    theirs = ours.copy()
    theirs[20:30] = 2
    ours[20:30] = rng.integers(0, 2, 10)
    differing = np.flatnonzero(ours != theirs)
    found = compare(metric, certain(ours, 3), certain(theirs, 3), truth)
    differences = []
    for chosen in itertools.product([False, True], repeat=len(differing)):
        rows = differing[list(chosen)]
        one, other = ours.copy(), theirs.copy()
        one[rows], other[rows] = theirs[rows], ours[rows]
        differences.append(score(truth, one) - score(truth, other))
    exact = np.mean(np.abs(differences) >= abs(found.difference) - 1e-12)
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_other_metrics_need_as_many_rows_as_halve_the_interval_enough() -> None:
    seen = Comparison("macro_f1", "", 0.02, -0.02, 0.06, 0.3, 30, 20, 500)
    # Half the interval is 0.04 on 500 rows; power of four out of five asks for 0.02 * 1.96 / 2.80.
    assert rows_to_tell(seen) == pytest.approx(500 * (0.04 / (0.02 * 1.96 / 2.8016)) ** 2, rel=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_one_row_is_compared_too(metric: str) -> None:
    found = compare(metric, certain(np.array([1]), 2), certain(np.array([0]), 2), np.array([1]))
    assert found.p_value > 0.3
    assert found.low <= found.difference <= found.high


def test_models_of_other_rows_are_refused() -> None:
    ours, theirs, truth = some_pair()
    with pytest.raises(DataError, match="399 predictions for 400 rows"):
        compare("accuracy", ours, theirs[:-1], truth)
    with pytest.raises(DataError, match="at least one"):
        compare("accuracy", ours[:0], theirs[:0], truth[:0])
