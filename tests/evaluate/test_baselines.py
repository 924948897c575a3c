"""Baselines: what they learn, what a budget cuts, and rows that allow little or nothing."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whet.evaluate.baselines import (
    FROZEN_STRENGTHS,
    TFIDF_STRENGTHS,
    Absent,
    Baseline,
    Parts,
    frozen,
    majority,
    tfidf,
)
from whet.evaluate.budget import Budget, Problem
from whet.evaluate.metrics import classification, log_loss

SETTINGS = {"tfidf": 2 * len(TFIDF_STRENGTHS), "frozen": len(FROZEN_STRENGTHS)}


def accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return float((probabilities.argmax(1) == targets).mean())


@dataclass
class Case:
    """A problem with the inputs of both baselines, and the test rows' class numbers."""

    problem: Problem
    texts: Parts[list[str]]
    vectors: Parts[np.ndarray]
    test: np.ndarray

    def run(self, name: str, budget: Budget | None = None) -> Baseline | Absent:
        if name == "tfidf":
            return tfidf(self.problem, self.texts, budget)
        return frozen(self.problem, self.vectors, budget)

    def made(self, name: str, budget: Budget | None = None) -> Baseline:
        found = self.run(name, budget)
        assert isinstance(found, Baseline), found
        return found

    def with_problem(self, **changes: Any) -> Case:
        return replace(self, problem=replace(self.problem, **changes))


def case(
    train: list[int], valid: list[int], test: list[int], classes: int, score: Any = accuracy, apart: float = 1.0
) -> Case:
    """Rows made from class numbers: texts of five words, two of them of the class; vectors around the class's mean.

    With `apart` below 1 the means are nearer to each other, and some texts have the words of any class.
    """
    chance = np.random.default_rng(3)
    means = apart * chance.normal(size=(classes, 12))

    def text(number: int) -> str:
        number = number if chance.random() < apart else int(chance.integers(classes))
        words = [
            f"own{number}",
            f"word{number}x{chance.integers(3)}",
            *(f"any{n}" for n in chance.integers(40, size=3)),
        ]
        return " ".join(chance.permutation(words))

    parts = [np.array(part, dtype=np.int64) for part in (train, valid, test)]
    texts = Parts(*([text(int(number)) for number in part] for part in parts))
    vectors = Parts(*((means[part] + chance.normal(size=(len(part), 12))).astype(np.float32) for part in parts))
    return Case(Problem(train=parts[0], valid=parts[1], classes=classes, score=score), texts, vectors, parts[2])


def equal_shares(rows: int, classes: int) -> list[int]:
    return [number % classes for number in range(rows)]


def of_messages(messages: Path) -> Case:
    """The repository's example, every fifth row for validation and every fifth for the test; as vectors, letters."""
    with messages.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels = sorted({row["label"] for row in rows})
    parts = [[row for n, row in enumerate(rows) if n % 5 in places] for places in ((0, 1, 2), (3,), (4,))]
    targets = [np.array([labels.index(row["label"]) for row in part]) for part in parts]
    texts = Parts(*([row["text"] for row in part] for part in parts))
    letters = Parts(*(count_letters(part) for part in (texts.train, texts.valid, texts.test)))
    problem = Problem(train=targets[0], valid=targets[1], classes=len(labels), score=accuracy)
    return Case(problem, texts, letters, targets[2])


def count_letters(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)


BOTH = pytest.mark.parametrize("name", ["tfidf", "frozen"])


# ---- what they learn ----


def test_majority_gives_every_row_the_shares_of_the_training_rows() -> None:
    problem = Problem(train=np.array([2, 0, 2, 2]), valid=np.array([0, 2]), classes=4, score=accuracy)
    found = majority(problem, 3)
    assert found.valid.tolist() == [[0.25, 0, 0.75, 0]] * 2
    assert found.test.tolist() == [[0.25, 0, 0.75, 0]] * 3
    assert found.cuts == ()


@BOTH
def test_real_rows_are_told_apart_far_better_than_by_the_majority(name: str, messages: Path) -> None:
    rows = of_messages(messages)
    found, simple = rows.made(name), majority(rows.problem, len(rows.test))
    assert found.cuts == ()
    assert found.settings["tried"] == SETTINGS[name]
    assert accuracy(found.test, rows.test) > accuracy(simple.test, rows.test) + (0.3 if name == "tfidf" else 0.05)
    assert log_loss(rows.test, found.test) < log_loss(rows.test, simple.test)
    for given_rows, probabilities in ((rows.problem.valid, found.valid), (rows.test, found.test)):
        assert probabilities.shape == (len(given_rows), rows.problem.classes)
        assert probabilities.min() >= 0
        assert np.allclose(probabilities.sum(1), 1, atol=1e-6)


@BOTH
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc", "log_loss"])
def test_the_setting_with_the_best_validation_score_is_kept(name: str, metric: str, messages: Path) -> None:
    scores = []

    def score(probabilities: np.ndarray, targets: np.ndarray) -> float:
        value = classification(targets, probabilities)[metric]
        scores.append(-value if metric == "log_loss" else value)
        return scores[-1]

    rows = of_messages(messages).with_problem(score=score)
    found = rows.made(name)
    every = scores[:]
    assert len(every) == SETTINGS[name]
    assert score(found.valid, rows.problem.valid) == max(every)
    assert len(set(every)) > 1


@BOTH
def test_test_rows_have_no_say_in_the_choice(name: str, messages: Path) -> None:
    rows = of_messages(messages)
    other = replace(
        rows,
        texts=replace(rows.texts, test=["nothing like it"]),
        vectors=replace(rows.vectors, test=np.full((1, 26), 1e4, np.float32)),
    )
    left, right = rows.made(name), other.made(name)
    assert left.settings == right.settings
    assert np.array_equal(left.valid, right.valid)


def test_frozen_features_may_have_any_scale_and_place(messages: Path) -> None:
    rows = of_messages(messages)
    scales = np.geomspace(1e-3, 1e3, 26).astype(np.float32)
    parts = rows.vectors.train, rows.vectors.valid, rows.vectors.test
    moved = replace(rows, vectors=Parts(*(part * scales + scales for part in parts)))
    left, right = rows.made("frozen"), moved.made("frozen")
    assert left.settings == right.settings
    assert np.allclose(left.test, right.test, atol=0.01)


@BOTH
@pytest.mark.parametrize("rare", [30, 3])
def test_balanced_weights_find_rare_classes_and_do_not_diverge(name: str, rare: int) -> None:
    """3 rows among 1,500 weigh 250 times a row each: unless it is told, SAGA diverges."""
    train = [0] * 1500 + [1] * rare
    rows = case(train, [0] * 100 + [1] * 100, [0] * 100 + [1] * 100, 2, apart=0.4)
    plain, balanced = (rows.with_problem(class_weight=kind).made(name) for kind in ("none", "balanced"))
    found_rare = [(found.test.argmax(1)[100:] == 1).mean() for found in (plain, balanced)]
    assert found_rare[1] > found_rare[0]
    assert log_loss(rows.test, balanced.test) < log_loss(rows.test, plain.test)


# ---- rows that allow little ----


@BOTH
def test_a_class_that_the_training_rows_lack_has_a_column_of_zeros(name: str) -> None:
    rows = case([0, 2, 4] * 10, [0, 2, 4], [0, 1, 2, 3, 4], 5)
    found = rows.made(name)
    assert found.test.shape == (5, 5)
    assert not found.test[:, [1, 3]].any()
    assert found.test.argmax(1)[[0, 2, 4]].tolist() == [0, 2, 4]


@BOTH
def test_one_label_only_is_a_reason_not_an_error(name: str) -> None:
    found = case([1] * 30, [1] * 3, [1] * 3, 2).run(name)
    assert isinstance(found, Absent)
    assert found.name == name
    assert "same label" in found.reason


@BOTH
def test_twenty_rows_are_enough_to_learn_from(name: str) -> None:
    rows = case(equal_shares(20, 2), equal_shares(6, 2), equal_shares(40, 2), 2)
    assert accuracy(rows.made(name).test, rows.test) > 0.8


@BOTH
def test_seventy_seven_labels_of_two_rows_each(name: str) -> None:
    rows = case(equal_shares(154, 77), equal_shares(77, 77), equal_shares(77, 77), 77)
    found = rows.made(name)
    assert found.test.shape == (77, 77)
    assert accuracy(found.test, rows.test) > 20 / 77


@BOTH
def test_no_test_rows_give_no_probabilities(name: str) -> None:
    rows = case(equal_shares(20, 2), equal_shares(6, 2), [], 2)
    assert rows.made(name).test.shape == (0, 2)
    assert majority(rows.problem, 0).test.shape == (0, 2)


def test_texts_without_a_word_are_a_reason_not_an_error() -> None:
    texts = Parts(["?!", "...", "\U0001f600", "-"] * 5, ["words here"], ["!"])
    problem = Problem(train=np.arange(20) % 2, valid=np.array([0]), classes=2, score=accuracy)
    found = tfidf(problem, texts)
    assert isinstance(found, Absent)
    assert found.reason == "none of 20 training texts holds a word"


def test_stop_words_single_letters_and_texts_without_words_are_learnt_from() -> None:
    train = ["the of", "a 5", "!!"] * 10
    texts = Parts(train, ["of", "a"], ["the", "5", "?", "unknown"])
    problem = Problem(train=np.arange(30) % 3, valid=np.array([0, 1]), classes=3, score=accuracy)
    found = tfidf(problem, texts)
    assert isinstance(found, Baseline)
    assert found.test.argmax(1).tolist()[:3] == [0, 1, 2]
    assert np.isfinite(found.test).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_vectors_that_are_no_numbers_are_a_reason_not_an_error(wrong: float, part: str) -> None:
    rows = case(equal_shares(20, 2), equal_shares(6, 2), equal_shares(6, 2), 2)
    getattr(rows.vectors, part)[3, 5] = wrong
    found = rows.run("frozen")
    assert isinstance(found, Absent)
    assert "not finite" in found.reason


# ---- budgets ----


class Ticking:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1
        return self.time


MANY = case(equal_shares(1500, 3), equal_shares(90, 3), equal_shares(30, 3), 3)


def sampled(name: str, seed: int) -> Baseline:
    """Made within the smallest budget, in steps of 5 seconds, that is enough for one."""
    rows = MANY.with_problem(seed=seed)
    tries = (rows.run(name, Budget(seconds, Ticking())) for seconds in itertools.count(5, 5))
    return next(found for found in tries if isinstance(found, Baseline))


@BOTH
def test_the_same_rows_give_the_same_bits_with_and_without_a_budget_that_is_enough(name: str) -> None:
    whole, again, enough = MANY.made(name), MANY.made(name), MANY.made(name, Budget(1e9, Ticking()))
    assert whole.cuts == ()
    for other in (again, enough):
        assert (other.settings, other.cuts) == (whole.settings, whole.cuts)
        assert np.array_equal(other.valid, whole.valid)
        assert np.array_equal(other.test, whole.test)


@BOTH
def test_a_sample_is_named_and_learnt_from(name: str) -> None:
    found = sampled(name, 0)
    words = ("single words only",) if name == "tfidf" else ()
    assert found.cuts[:-1] == (f"1 of {SETTINGS[name]} settings tried", *words)
    assert found.cuts[-1].startswith("trained on ")
    assert found.cuts[-1].endswith(" of 1,500 rows (seed 0)")
    assert accuracy(found.test, MANY.test) > 0.6


@BOTH
def test_the_seed_draws_the_sample(name: str) -> None:
    first, again, other = sampled(name, 4), sampled(name, 4), sampled(name, 5)
    assert "(seed 4)" in first.cuts[-1]
    assert np.array_equal(first.valid, again.valid)
    assert not np.array_equal(first.valid, other.valid)


@BOTH
def test_no_time_at_all_is_a_reason_not_an_error(name: str) -> None:
    found = MANY.run(name, Budget(0.0))
    assert isinstance(found, Absent)
    assert found.reason == "no time was left for it"


class Counted(list[str]):
    """Texts that count the characters of those that are taken out one by one."""

    characters = 0

    def __getitem__(self, row: Any) -> Any:
        text = super().__getitem__(row)
        self.characters += len(text)
        return text


def test_long_texts_are_measured_on_few_of_them() -> None:
    """256 of these would be 25 million characters."""
    train = Counted(["word " * 20_000, "other " * 20_000] * 150)
    problem = Problem(train=np.arange(300) % 2, valid=np.array([0, 1]), classes=2, score=accuracy)
    assert isinstance(tfidf(problem, Parts(train, ["word", "other"], ["other"]), Budget(5, Ticking())), Absent)
    assert 0 < train.characters < 2_000_000
