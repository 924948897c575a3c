"""What is said to be forgotten: nothing where vectors only turn, what scipy says where they change, and intervals that
hold the true change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from whet.evaluate.baselines import Parts
from whet.evaluate.forgetting import (
    Probe,
    Sides,
    accuracy_change,
    agreement,
    alignment,
    cosines,
    jackknife,
    loss_change,
    probe,
    spearman,
    spearman_change,
)

fewer = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**31 - 1)


def sides(seed: int, pairs: int = 30, features: int = 12) -> Sides:
    """Vectors with a common direction, as those of sentences have it."""
    rng = np.random.default_rng(seed)
    shift = 2 * rng.normal(size=features)
    return Sides(*(rng.normal(size=(pairs, features)).astype(np.float32) + shift.astype(np.float32) for _ in range(2)))


def scores(seed: int, pairs: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, pairs).astype(float)


def turned(vectors: Sides, seed: int, scale: float, shift: float) -> Sides:
    features = vectors.left.shape[1]
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(features, features)))
    return Sides(*((scale * side @ rotation + shift) for side in vectors))


@fewer
@given(seed=seeds, pairs=st.integers(3, 40), features=st.integers(2, 60))
def test_of_equal_vectors_nothing_is_forgotten(seed: int, pairs: int, features: int) -> None:
    same = sides(seed, pairs, features)
    change = spearman_change(same, same, scores(seed, pairs))
    assert change.before == change.after
    assert (change.difference, change.low, change.high) == (0, 0, 0)
    for found in (agreement(same, same), alignment(same, same)):
        assert [found.value, found.low, found.high] == pytest.approx([1, 1, 1], abs=1e-9)


@fewer
@given(seed=seeds, scale=st.floats(0.1, 10), shift=st.floats(-3, 3))
def test_alignment_does_not_mind_rotation_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    before = sides(seed)
    after = turned(before, seed + 1, scale, shift)
    assert alignment(before, after).value == pytest.approx(1, abs=1e-6)
    assert agreement(before, after).value < 0.99


@fewer
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_cosines_of_pairs_do_not_mind_rotation_and_scale(seed: int, scale: float) -> None:
    before = sides(seed)
    change = spearman_change(before, turned(before, seed + 1, scale, 0), scores(seed))
    assert change.difference == pytest.approx(0, abs=0.01)  # rounding may exchange two ranks


def test_vectors_that_have_nothing_in_common_do_not_align_however_many_features_they_have() -> None:
    before, after = sides(0, 60, 2000), sides(1, 60, 2000)
    found = alignment(before, after)
    assert abs(found.value) < 0.02
    assert found.low < 0 < found.high
    plain = [np.concatenate(vectors) - np.concatenate(vectors).mean(0) for vectors in (before, after)]
    products = [part @ part.T for part in plain]
    shared = [(one * other).sum() for one, other in ((products[0], products[1]), *((p, p) for p in products))]
    assert shared[0] / np.sqrt(shared[1] * shared[2]) > 0.9  # what the usual estimate would say


def test_alignment_leaves_out_pairs_as_if_they_had_never_been() -> None:
    before = sides(3, 20)
    after = Sides(*(side + 0.8 * other for side, other in zip(before, sides(4, 20), strict=True)))
    kept = [np.arange(20), *(np.delete(np.arange(20), pair) for pair in range(20))]
    each = [alignment(*(Sides(*(side[rows] for side in part)) for part in (before, after))).value for rows in kept]
    found = alignment(before, after)
    assert (found.low, found.high) == pytest.approx(tuple(jackknife(np.array(each))), abs=1e-9)
    assert 0 < found.low < found.value < found.high <= 1


@fewer
@given(
    one=arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.5, 1.0, 2.5, -1.0])),
    other=arrays(np.float64, 12, elements=st.floats(-5, 5, width=16)),
)
def test_spearman_is_that_of_scipy_of_all_and_without_each(one: np.ndarray, other: np.ndarray) -> None:
    found = spearman(one, other)
    for number, value in enumerate(found):
        left = [np.delete(part, number - 1) if number else part for part in (one, other)]
        if min(len(np.unique(part)) for part in left) == 1:
            assert value == 0
        else:
            assert value == pytest.approx(spearmanr(*left).statistic, abs=1e-12)


def test_a_body_that_gives_the_same_vector_for_everything_knows_nothing() -> None:
    before = sides(0)
    change = spearman_change(before, Sides(np.ones((30, 12)), np.ones((30, 12))), scores(0))
    assert change.after == 0
    silent = Sides(np.zeros((30, 12)), np.zeros((30, 12)))
    assert agreement(before, silent).value == 0
    assert alignment(before, silent).value == 0


def test_the_interval_of_a_change_holds_it_in_about_95_of_100_samples() -> None:
    """Cosines before and after that go with the scores as much as those of real models do."""
    rng, size, runs = np.random.default_rng(0), 80, 400
    together = np.array([[1, 0.85, 0.6], [0.85, 1, 0.7], [0.6, 0.7, 1]])
    score, *true = rng.multivariate_normal(np.zeros(3), together, 200_000).T
    change = spearmanr(true[1], score).statistic - spearmanr(true[0], score).statistic
    held = 0
    for _ in range(runs):
        score, before, after = rng.multivariate_normal(np.zeros(3), together, size).T
        low, high = jackknife(spearman(after, score) - spearman(before, score))
        held += low <= change <= high
    assert 0.92 <= held / runs <= 0.98


def test_losses_are_per_token_and_change_by_the_token() -> None:
    tokens = np.array([10, 30, 60])
    change = loss_change(2.0 * tokens, 2.5 * tokens, tokens)
    assert (change.before, change.after, change.difference) == (2, 2.5, 0.5)
    assert (change.low, change.high) == pytest.approx((0.5, 0.5))
    uneven = loss_change(2.0 * tokens, np.array([30.0, 60.0, 150.0]), tokens)
    assert uneven.after == pytest.approx(2.4)
    assert uneven.low < 0.4 < uneven.high


def test_a_probe_reads_an_earlier_task_off_vectors_and_sees_when_it_is_gone() -> None:
    rng = np.random.default_rng(0)
    targets = Parts(*(rng.integers(0, 3, rows) for rows in (120, 40, 80)))
    known = [
        np.eye(3)[part] + 0.2 * rng.normal(size=(len(part), 3)) for part in (targets.train, targets.valid, targets.test)
    ]
    lost = [rng.normal(size=part.shape) for part in known]
    before, after = (probe(Parts(*vectors), targets, 3, 0) for vectors in (known, lost))
    assert isinstance(before, Probe)
    assert isinstance(after, Probe)
    found = accuracy_change(before.probabilities, after.probabilities, targets.test, 0)
    assert found.before > 0.95
    assert found.after < 0.6
    assert found.low < found.difference < found.high < 0
    assert found.p_value < 0.001
    same = accuracy_change(before.probabilities, before.probabilities, targets.test, 0)
    assert (same.difference, same.p_value) == (0, 1)


def test_cosines_of_a_vector_without_length_are_0() -> None:
    assert cosines(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [6.0, 8.0]])).tolist() == [0, 1]
