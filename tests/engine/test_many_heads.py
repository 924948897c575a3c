"""Heads of many penalties at once: each is the one that scikit-learn finds, whatever stands beside it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from whet.engine import many_heads
from whet.engine.many_heads import ManyHeads, fit_heads
from whet.errors import NonFiniteError

PENALTIES = tuple(float(c) for c in np.logspace(-3, 3, 20))


def made(rows: int, width: int, classes: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors as models give them: columns that go together, of unlike size and off centre. Labels that these tell in
    part, and of unlike frequency."""
    chance = np.random.default_rng(seed)
    mixed = chance.normal(size=(width, width)) * np.arange(1, width + 1)[:, None] ** -0.7
    hidden = chance.normal(size=(rows, width))
    vectors = hidden @ mixed * 0.05 + chance.normal(size=width)
    pull = hidden @ chance.normal(size=(width, classes)) * 3 / np.sqrt(width) - 0.4 * np.arange(classes)
    return vectors.astype(np.float32), (pull + noise * chance.gumbel(size=pull.shape)).argmax(1)


def fit(
    vectors: np.ndarray, truth: np.ndarray, penalties: tuple[float, ...] = PENALTIES, weights: np.ndarray | None = None
) -> ManyHeads:
    given = None if weights is None else torch.from_numpy(weights)
    return fit_heads(torch.from_numpy(vectors), torch.from_numpy(truth), int(truth.max()) + 1, penalties, given)


def objective(rows: np.ndarray, truth: np.ndarray, found: tuple[np.ndarray, ...], c: float, each: np.ndarray) -> float:
    """The sum of the weighted losses and the penalty, in fp64; `found` holds H x O weights and O intercepts."""
    weights, intercepts = (part.astype(np.float64) for part in found)
    logits = rows @ weights + intercepts
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    losses = np.logaddexp.reduce(logits, 1) - logits[np.arange(len(truth)), truth]
    return float((each * losses).sum() + (weights**2).sum() / (2 * c))


def reference(rows: np.ndarray, truth: np.ndarray, c: float, balanced: bool) -> LogisticRegression:
    model = LogisticRegression(C=c, class_weight="balanced" if balanced else None, solver="newton-cg", tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a line search that ends on rounding
        return model.set_params(max_iter=1000).fit(rows, truth)


@pytest.mark.parametrize("balanced", [False, True], ids=["equal rows", "balanced"])
@pytest.mark.parametrize(("rows", "width", "classes"), [(400, 24, 2), (400, 24, 5), (90, 120, 2), (90, 120, 3)])
def test_every_head_is_the_one_that_scikit_learn_finds(rows: int, width: int, classes: int, balanced: bool) -> None:
    """Also with more columns than rows, where the labels can be told apart without a mistake."""
    vectors, truth = made(rows, width, classes)
    each = np.ones(rows)
    if balanced:
        each = (rows / (classes * np.bincount(truth)))[truth]
    heads = fit(vectors, truth, weights=each)
    assert heads.settled.all()
    standard = StandardScaler().fit_transform(vectors.astype(np.float64))
    for number in (0, 5, 10, 15, 19):
        own = heads.weights[:, number].numpy(), heads.intercepts[number].numpy()
        model = reference(standard, truth, PENALTIES[number], balanced)
        best = objective(standard, truth, (model.coef_.T, model.intercept_), PENALTIES[number], each)
        assert objective(standard, truth, own, PENALTIES[number], each) <= best * (1 + 1e-4)
        assert float(heads.objective[number]) == pytest.approx(best, rel=1e-4)
        mine = heads.probabilities(torch.from_numpy(vectors), number).numpy()
        assert (mine.argmax(1) == model.predict(standard)).mean() >= 0.995
        np.testing.assert_allclose(mine, model.predict_proba(standard), atol=5e-3)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_head_does_not_depend_on_those_beside_it(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, truth = made(200, 16, classes)
    together, probe = fit(vectors, truth), torch.from_numpy(vectors)
    monkeypatch.setattr(many_heads, "LOGITS_AT_ONCE", 3 * 200 * classes)
    in_groups = fit(vectors, truth)
    for number, c in enumerate(PENALTIES):
        alone = fit(vectors, truth, (c,))
        expected = alone.probabilities(probe, 0)
        for heads in (together, in_groups):
            torch.testing.assert_close(heads.probabilities(probe, number), expected, atol=1e-3, rtol=0)
            assert float(heads.objective[number]) == pytest.approx(float(alone.objective[0]), rel=1e-5)


@pytest.mark.parametrize("c", [1e-6, 1e6])
def test_extreme_penalties_settle(c: float) -> None:
    vectors, truth = made(60, 80, 3)
    heads = fit(vectors, truth, (c,))
    assert heads.settled.all()
    found = heads.probabilities(torch.from_numpy(vectors), 0).numpy()
    if c < 1:  # nothing may be learnt but how frequent the classes are
        np.testing.assert_allclose(found, np.tile(np.bincount(truth) / 60, (60, 1)), atol=1e-3)
    else:
        assert (found.argmax(1) == truth).all()
        assert found[np.arange(60), truth].min() > 0.99


def test_rows_of_twice_the_weight_are_half_the_penalty() -> None:
    vectors, truth = made(120, 10, 3)
    heavy, light = fit(vectors, truth, (0.1, 10.0), np.full(120, 2.0)), fit(vectors, truth, (0.2, 20.0))
    torch.testing.assert_close(heavy.weights, light.weights, atol=1e-3, rtol=0)
    torch.testing.assert_close(heavy.objective, 2 * light.objective, atol=0, rtol=1e-5)


def test_penalties_are_of_standardised_columns() -> None:
    """So that the same ones fit vectors of every size."""
    vectors, truth = made(120, 10, 3)
    other = vectors * np.float32(200) * np.arange(1, 11, dtype=np.float32) + 7
    first, second = fit(vectors, truth), fit(other, truth)
    torch.testing.assert_close(first.objective, second.objective, atol=0, rtol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1234.567])
def test_a_constant_column_counts_nothing(constant: float) -> None:
    vectors, truth = made(100, 8, 2)
    wider = np.hstack([vectors, np.full((100, 1), constant, np.float32)])
    without, beside = fit(vectors, truth, (1.0,)), fit(wider, truth, (1.0,))
    expected = without.probabilities(torch.from_numpy(vectors), 0)
    torch.testing.assert_close(beside.probabilities(torch.from_numpy(wider), 0), expected, atol=1e-4, rtol=0)


def test_vectors_that_say_nothing_give_the_shares_of_the_classes() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2] * 5)
    heads = fit(np.ones((30, 4), np.float32), truth, (0.01, 100.0))
    assert heads.settled.all()
    found = heads.probabilities(torch.ones(2, 4), 1)
    torch.testing.assert_close(found, torch.tensor([[3, 2, 1], [3, 2, 1]]) / 6, atol=1e-5, rtol=0)


def test_vectors_that_are_no_numbers_are_refused() -> None:
    vectors, truth = made(30, 4, 2)
    vectors[3, 2] = np.inf
    with pytest.raises(NonFiniteError, match="not finite"):
        fit(vectors, truth)
