"""Intervals and comparisons over sentences: where they must lie, and how often equal models are called different."""

from __future__ import annotations

import numpy as np
import pytest

from whet.errors import DataError
from whet.evaluate.by_sentence import Counted, compared, interval, intervals
from whet.evaluate.entities import f1, micro_f1
from whet.evaluate.intervals import wilson


def share(sums: np.ndarray) -> np.ndarray:
    """Right words of all words."""
    return sums[..., 0] / np.maximum(sums[..., 1], 1)


def some(seed: int, sentences: int, words: int, right: float) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return np.stack([chance.binomial(words, right, sentences), np.full(sentences, words)], 1)


def test_of_independent_words_the_interval_is_that_of_a_share() -> None:
    counts = some(1, 400, 5, 0.8)
    found, low_high = interval(Counted(counts, share)), wilson(counts[:, 0].sum(), counts[:, 1].sum())
    assert (found.low, found.high) == pytest.approx((float(low_high.low), float(low_high.high)), abs=0.004)
    assert found.low < share(counts.sum(0)) < found.high


def test_where_words_of_a_sentence_hang_together_it_is_wider() -> None:
    chance = np.random.default_rng(2)
    together = np.stack([5 * chance.binomial(1, 0.8, 400), np.full(400, 5)], 1)
    apart = some(2, 400, 5, 0.8)
    widths = [(one := interval(Counted(counts, share))).high - one.low for counts in (together, apart)]
    assert widths[0] > 1.7 * widths[1]


def test_the_interval_of_f1_holds_the_true_score() -> None:
    """50 test sets from one source, whose own F1 is known from many more sentences of it."""
    chance = np.random.default_rng(3)

    def drawn(sentences: int) -> np.ndarray:
        true = chance.poisson(1.5, sentences)
        found = chance.binomial(true, 0.6)
        return np.stack([found, found + chance.poisson(0.4, sentences), true], 1)[:, None]

    truth = float(micro_f1(drawn(200_000).sum(0)))
    inside = [(one := interval(Counted(drawn(200), micro_f1))).low <= truth <= one.high for _ in range(50)]
    assert sum(inside) >= 42


def test_the_same_draws_come_from_the_same_seed() -> None:
    counts = np.random.default_rng(4).integers(1, 50, (40, 2))
    assert interval(Counted(counts, share), seed=1) == interval(Counted(counts, share), seed=1)
    assert interval(Counted(counts, share), seed=1) != interval(Counted(counts, share), seed=2)


def test_a_model_against_itself_is_no_difference() -> None:
    counts = some(5, 60, 4, 0.7)
    found = compared("accuracy", Counted(counts, share), Counted(counts, share))
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_clear_difference_is_one_and_its_sign_is_ours_minus_theirs() -> None:
    ours, theirs = Counted(some(6, 200, 5, 0.9), share), Counted(some(7, 200, 5, 0.6), share)
    found = compared("accuracy", ours, theirs)
    assert found.p_value < 0.01
    assert found.low > 0.2
    back = compared("accuracy", theirs, ours)
    assert back.difference == -found.difference
    assert back.high < -0.2
    assert found.rows == 200


def test_equal_models_are_seldom_called_different() -> None:
    models = [Counted(some(seed, 100, 4, 0.7), share) for seed in range(120)]
    found = [compared("a", *pair).p_value for pair in zip(models[::2], models[1::2], strict=True)]
    assert sum(value < 0.05 for value in found) <= 8


def test_without_sentences_there_is_no_interval() -> None:
    with pytest.raises(DataError, match="none"):
        interval(Counted(np.zeros((0, 2)), share))


def test_of_scores_of_several_types_each_has_its_own_interval() -> None:
    chance = np.random.default_rng(8)
    true = chance.integers(0, 3, (300, 2))
    found = chance.binomial(true, [0.9, 0.3])
    counts = np.stack([found, found + 1, true + 1], 2)
    low, high = intervals({"f1": Counted(counts, f1)})["f1"]
    assert low.shape == high.shape == (2,)
    assert high[1] < low[0]
    alone = interval(Counted(counts[:, :1], micro_f1))
    assert (alone.low, alone.high) == (low[0], high[0])
