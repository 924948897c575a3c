"""A classifier's mistakes: the rows, the pairs, the doubts and the costs add up and are the right ones."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.evaluate.mistakes import confident, confused, costs, doubted

LABELS = ("card", "loan", "order")
# Six rows: 1, 3 and 4 are mistakes. Row 4 is surer than row 1, which is surer than row 3.
TRUTH = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.95, 0.03, 0.02], [0.1, 0.2, 0.7]]
)
PREDICTED = PROBABILITIES.argmax(1)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Truth, probabilities and labels; rows may be none, classes may lack rows, and probabilities may tie."""
    rows, classes = draw(st.integers(0, 40)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.integers(1, draw(st.sampled_from([3, 1000])), (rows, classes)).astype(float)
    truth = rng.integers(0, draw(st.integers(1, classes)), rows)
    return truth, weights / weights.sum(1, keepdims=True), tuple(f"class {n}" for n in range(classes))


def test_the_surest_mistakes_come_first() -> None:
    found = confident(TRUTH, PROBABILITIES, LABELS)
    assert [one.index for one in found] == [4, 1, 3]
    assert asdict(found[0]) == {
        "index": 4,
        "truth": "order",
        "prediction": "card",
        "probability": 0.95,
        "of_truth": 0.02,
    }
    assert confident(TRUTH, PROBABILITIES, LABELS, most=2) == found[:2]


def test_equally_sure_mistakes_keep_the_order_of_the_rows() -> None:
    truth = np.zeros(30, dtype=np.int64)
    assert [one.index for one in confident(truth, np.tile([0.3, 0.7], (30, 1)), ("a", "b"), most=30)] == [*range(30)]


def test_pairs_are_ordered_by_count_then_by_the_share_of_their_class() -> None:
    truth = np.array([0] * 10 + [1] * 4 + [2] * 2)
    predicted = np.array([0] * 7 + [1, 1, 2] + [1, 1, 0, 0] + [2, 0])
    found = [(one.truth, one.prediction, one.count, one.share) for one in confused(truth, predicted, LABELS)]
    assert found == [
        ("loan", "card", 2, 0.5),
        ("card", "loan", 2, 0.2),
        ("order", "card", 1, 0.5),
        ("card", "order", 1, 0.1),
    ]
    assert [one.count for one in confused(truth, predicted, LABELS, most=1)] == [2]


def test_a_label_is_doubted_where_another_class_reaches_its_own_mean() -> None:
    """Means of the given label's probability: card 0.5, loan 0.55, order 0.36. Row 3 (labelled loan, 0.5 card) just
    reaches the mean of card; row 4 (labelled order, 0.95 card) is the strongest doubt."""
    found = doubted(TRUTH, PROBABILITIES, LABELS)
    assert [(one.index, one.given, one.suggested) for one in found] == [
        (4, "order", "card"),
        (1, "card", "loan"),
        (3, "loan", "card"),
    ]
    assert (found[0].of_given, found[0].of_suggested) == (0.02, 0.95)


def test_a_mistake_in_which_no_class_is_confident_is_no_doubt() -> None:
    """The wrong class leads in the last row, yet is far below what it has where it is the label."""
    truth = np.array([0, 0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.1, 0.9], [0.05, 0.95], [0.45, 0.55]])
    assert [one.index for one in confident(truth, probabilities, ("a", "b"))] == [4]
    assert doubted(truth, probabilities, ("a", "b")) == []


def test_labels_that_were_swapped_are_found_among_many() -> None:
    """2,000 rows in four classes, a model that is right on 97 of 100, and 60 labels swapped: half of them or more are
    doubted, and the strongest doubts are about them."""
    rng = np.random.default_rng(5)
    real = rng.integers(0, 4, 2000)
    logits = rng.normal(0, 1, (2000, 4))
    logits[np.arange(2000), real] += 3.2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    swapped = rng.choice(2000, 60, replace=False)
    labelled = real.copy()
    labelled[swapped] = (real[swapped] + 1 + rng.integers(0, 3, 60)) % 4
    found = doubted(labelled, probabilities, ("a", "b", "c", "d"))
    assert len({one.index for one in found} & set(swapped.tolist())) >= 30
    first = [one.index for one in found[:30]]
    assert len(set(first) & set(swapped.tolist())) >= 28


def test_costs_name_missed_and_taken_rows_of_each_class() -> None:
    found = costs(TRUTH, PREDICTED, LABELS)
    assert [(one.label, one.missed, one.taken, one.mistakes) for one in found] == [
        ("card", 1, 2, 3),
        ("loan", 1, 1, 2),
        ("order", 1, 0, 1),
    ]
    assert found[0].share == pytest.approx(0.5)
    assert found[0].lost == pytest.approx(0.25)


@given(outputs())
def test_the_figures_add_up(made: tuple[np.ndarray, np.ndarray, tuple[str, ...]]) -> None:
    truth, probabilities, labels = made
    predicted = probabilities.argmax(1)
    mistakes = int((predicted != truth).sum())
    sure = confident(truth, probabilities, labels, most=1000)
    pairs = confused(truth, predicted, labels, most=1000)
    priced = costs(truth, predicted, labels)
    assert len(sure) == mistakes == sum(one.count for one in pairs)
    assert [one.probability for one in sure] == sorted((one.probability for one in sure), reverse=True)
    assert all(labels[truth[one.index]] == one.truth != one.prediction for one in sure)
    assert sum(one.missed for one in priced) == sum(one.taken for one in priced) == mistakes
    if mistakes:
        assert sum(one.share for one in priced) == pytest.approx(1)
        assert sum(one.lost for one in priced) == pytest.approx(mistakes / len(truth))
    for one in pairs:
        of_class = int((truth == labels.index(one.truth)).sum())
        assert one.share == pytest.approx(one.count / of_class)


@given(outputs())
def test_only_mistakes_are_doubted_and_the_suggestion_has_rows_of_its_own(
    made: tuple[np.ndarray, np.ndarray, tuple[str, ...]],
) -> None:
    truth, probabilities, labels = made
    found = doubted(truth, probabilities, labels)
    wrong = set(np.flatnonzero(probabilities.argmax(1) != truth).tolist())
    assert {one.index for one in found} <= wrong
    gaps = [one.of_suggested - one.of_given for one in found]
    assert gaps == sorted(gaps, reverse=True)
    for one in found:
        label = labels.index(one.suggested)
        own = probabilities[truth == label, label]
        assert one.given == labels[truth[one.index]] != one.suggested
        assert len(own)
        assert one.of_suggested >= own.mean() - 1e-12


@pytest.mark.parametrize(
    ("truth", "probabilities", "labels"),
    [
        (np.zeros(0, dtype=np.int64), np.zeros((0, 3)), LABELS),
        (np.array([0, 1, 2]), np.eye(3), LABELS),
        (np.zeros(4, dtype=np.int64), np.ones((4, 1)), ("only",)),
    ],
    ids=["no rows", "a perfect model", "one class"],
)
def test_where_nothing_is_wrong_nothing_is_said(
    truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...]
) -> None:
    predicted = probabilities.argmax(1)
    assert confident(truth, probabilities, labels) == []
    assert confused(truth, predicted, labels) == []
    assert doubted(truth, probabilities, labels) == []
    assert costs(truth, predicted, labels) == []


def test_everything_goes_into_json() -> None:
    found = [
        *confident(TRUTH, PROBABILITIES.astype(np.float32), LABELS),
        *confused(TRUTH, PREDICTED, LABELS),
        *doubted(TRUTH, PROBABILITIES.astype(np.float32), LABELS),
        *costs(TRUTH, PREDICTED, LABELS),
    ]
    assert json.loads(json.dumps([asdict(one) for one in found]))
