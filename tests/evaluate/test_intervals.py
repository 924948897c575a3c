"""Intervals of scores: what they hold, where they warn, and the count formulas behind them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import f1_score, matthews_corrcoef, precision_recall_fscore_support

from whet.errors import DataError
from whet.evaluate import metrics
from whet.evaluate.counts import (
    f1_per_label,
    macro_f1,
    macro_f1_influence,
    margins,
    mcc,
    mcc_influence,
    standard_error,
    tally,
)
from whet.evaluate.intervals import (
    Intervals,
    f1_limits,
    macro_f1_limits,
    mcc_limits,
    mean_limits,
    row_losses,
    score_intervals,
    wilson,
)

# Said by scikit-learn's Matthews correlation.
ONE_LABEL = "ignore:A single label was found:UserWarning"
LABELS = st.integers(2, 6)
UNEQUAL = np.array([0.35, 0.29, 0.16, 0.11, 0.07, 0.02])


@st.composite
def labelled_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N x C) and label numbers (N) of a few rows: all right, all wrong, one label only, ..."""
    labels, rows, seed = draw(LABELS), draw(st.integers(1, 60)), draw(st.integers(0, 2**31 - 1))
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, draw(st.integers(1, labels)), rows)
    right = rng.random(rows) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    predicted = np.where(right, truth, rng.integers(0, draw(st.integers(1, labels)), rows))
    return certain(predicted, labels, draw(st.sampled_from([0.9, 1.0]))), truth


def certain(predicted: np.ndarray, labels: int, confidence: float = 0.9) -> np.ndarray:
    """Probabilities that give `confidence` to the predicted label and share out the rest."""
    probabilities = np.full((len(predicted), labels), (1 - confidence) / (labels - 1))
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def population(shares: np.ndarray, accuracy: float) -> np.ndarray:
    """Shares of rows by true and predicted label: errors fall on the other labels in proportion to their rows."""
    share = shares / shares.sum()
    others = np.tile(share, (len(share), 1)) * (1 - np.eye(len(share)))
    return share[:, None] * (accuracy * np.eye(len(share)) + (1 - accuracy) * others / others.sum(1, keepdims=True))


def coverage(limits: tuple[np.ndarray, np.ndarray], true: float) -> float:
    return float(((limits[0] <= true) & (true <= limits[1])).mean())


def draws(shares: np.ndarray, rows: int, number: int = 1500) -> np.ndarray:
    drawn = np.random.default_rng(rows).multinomial(rows, shares.ravel(), size=number)
    return drawn.reshape(number, *shares.shape)


@pytest.mark.filterwarnings(ONE_LABEL)
@settings(max_examples=40, deadline=None)
@given(labelled_rows())
def test_scores_of_counts_are_those_of_scikit_learn(test: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, truth = test
    labels, predicted = probabilities.shape[1], probabilities.argmax(1)
    counts = tally(truth, predicted, labels)
    assert macro_f1(margins(counts)) == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert mcc(margins(counts)) == pytest.approx(matthews_corrcoef(truth, predicted), abs=1e-9)
    f1 = precision_recall_fscore_support(truth, predicted, labels=np.arange(labels), zero_division=0)[2]
    assert f1_per_label(margins(counts)) == pytest.approx(f1)
    assert row_losses(probabilities, truth).mean() == pytest.approx(metrics.log_loss(truth, probabilities))


@settings(max_examples=40, deadline=None)
@given(labelled_rows())
def test_the_influence_of_a_cell_is_the_slope_towards_a_row_more_in_it(test: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, truth = test
    counts = tally(truth, probabilities.argmax(1), probabilities.shape[1]) + 1.0
    for score, influence in ((macro_f1, macro_f1_influence), (mcc, mcc_influence)):
        slopes, step = influence(counts), 1e-6
        assert (counts * slopes).sum() == pytest.approx(0, abs=1e-8)
        moved = counts / counts.sum() * (1 - step)
        moved[0, 1] += step
        assert (score(margins(moved)) - score(margins(counts))) / step == pytest.approx(slopes[0, 1], abs=1e-3)


@pytest.mark.parametrize(("score", "influence"), [(macro_f1, macro_f1_influence), (mcc, mcc_influence)])
def test_standard_errors_are_the_spread_over_tests(score: object, influence: object) -> None:
    counts = draws(population(UNEQUAL, 0.8), 2000)
    spread = score(margins(counts)).std()  # type: ignore[operator]
    assert standard_error(counts, influence(counts)).mean() == pytest.approx(spread, rel=0.06)  # type: ignore[operator]


@pytest.mark.filterwarnings(ONE_LABEL)
@settings(max_examples=40, deadline=None)
@given(labelled_rows())
def test_every_interval_holds_its_score_and_stays_where_scores_can_be(test: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, truth = test
    found = score_intervals(probabilities, truth)
    scores = metrics.classification(truth, probabilities)
    ends = {"accuracy": (0, 1), "macro_f1": (0, 1), "mcc": (-1, 1), "log_loss": (0, 28)}
    for name, (lowest, highest) in ends.items():
        low, high = found.scores[name].low, found.scores[name].high
        assert lowest <= low <= scores[name] + 1e-9, name
        assert scores[name] - 1e-9 <= high <= highest, name
    assert 0 <= found.scores["ece"].low <= found.scores["ece"].high <= 1


@settings(max_examples=40, deadline=None)
@given(labelled_rows())
def test_each_class_has_intervals_where_rows_tell_and_none_elsewhere(test: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, truth = test
    predicted, labels = probabilities.argmax(1), tuple(map(str, range(probabilities.shape[1])))
    found = score_intervals(probabilities, truth).per_label
    for number, row in enumerate(metrics.per_label(truth, predicted, labels)):
        rows = {"precision": (predicted == number).sum(), "recall": (truth == number).sum()}
        rows["f1"] = rows["precision"] + rows["recall"]
        assert set(found[number]) == set(rows)
        for name, interval in found[number].items():
            assert (interval is None) == (rows[name] == 0)
            assert interval is None or 0 <= interval.low <= row[name] + 1e-12 <= interval.high + 1e-9 <= 1 + 1e-9


def test_wilsons_interval_is_scipys() -> None:
    for right, rows in ((0, 7), (3, 7), (7, 7), (941, 1000)):
        ends = binomtest(right, rows).proportion_ci(method="wilson")
        assert wilson(right, rows) == pytest.approx((ends.low, ends.high), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(labelled_rows(), st.randoms(use_true_random=False))
def test_names_of_labels_and_order_of_rows_change_nothing(test: tuple[np.ndarray, np.ndarray], random: object) -> None:
    probabilities, truth = test
    names = np.random.default_rng(random.randrange(2**31)).permutation(probabilities.shape[1])  # type: ignore[attr-defined]
    rows = np.random.default_rng(len(truth)).permutation(len(truth))
    first = score_intervals(probabilities, truth)
    second = score_intervals(probabilities[:, names][rows], np.argsort(names)[truth][rows])
    for name in ("accuracy", "macro_f1", "mcc", "log_loss"):
        assert (first.scores[name].low, first.scores[name].high) == pytest.approx(
            (second.scores[name].low, second.scores[name].high), abs=1e-9
        )


def test_the_seed_decides_the_only_interval_that_is_drawn() -> None:
    truth = np.arange(200) % 3
    probabilities = certain(np.where(np.arange(200) % 7, truth, (truth + 1) % 3), 3)
    first, again, other = (score_intervals(probabilities, truth, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.scores["ece"] != other.scores["ece"]
    assert {n: i for n, i in first.scores.items() if n != "ece"} == {
        n: i for n, i in other.scores.items() if n != "ece"
    }


def test_four_times_the_rows_halve_the_intervals() -> None:
    counts = np.round(1000 * population(UNEQUAL, 0.8)).astype(int)
    for limits in (macro_f1_limits, mcc_limits):
        few, many = limits(counts), limits(4 * counts)
        assert (many.high - many.low) / (few.high - few.low) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rows", [300, 1000])
@pytest.mark.parametrize(
    ("shares", "accuracy"), [(np.ones(2), 0.9), (np.ones(6), 0.7), (np.ones(6), 0.95), (np.ones(20), 0.85)]
)
def test_intervals_of_equal_classes_hold_the_true_score_in_95_percent(
    shares: np.ndarray, accuracy: float, rows: int
) -> None:
    """1,500 tests: the measured share is within 1.7 points of the expected one, three standard deviations."""
    known = population(shares, accuracy)
    counts, true = draws(known, rows), margins(known)
    assert coverage(wilson(margins(counts).right.sum(-1), rows), accuracy) == pytest.approx(0.95, abs=0.03)
    assert coverage(macro_f1_limits(counts), float(macro_f1(true))) == pytest.approx(0.95, abs=0.03)
    assert coverage(mcc_limits(counts), float(mcc(true))) == pytest.approx(0.95, abs=0.03)


def test_many_classes_of_few_rows_are_held_too() -> None:
    """77 classes of 13 rows, where limits of each class, squared and added without more, hold it in 80 %."""
    known = population(np.ones(77), 0.7)
    assert 0.93 < coverage(macro_f1_limits(draws(known, 1000)), float(macro_f1(margins(known)))) < 0.98


def test_macro_f1_of_one_class_has_the_interval_of_that_class() -> None:
    counts = np.zeros((3, 3), dtype=int)
    counts[1, 1] = 12
    rows = margins(counts)
    assert macro_f1_limits(counts) == pytest.approx([ends[1] for ends in f1_limits(rows.right, rows.truth)])


def test_a_label_that_no_row_has_and_none_gets_changes_no_standard_error() -> None:
    counts = draws(population(UNEQUAL, 0.8), 300, 1)[0]
    wider = np.pad(counts, ((0, 1), (0, 1)))
    for influence in (macro_f1_influence, mcc_influence):
        assert standard_error(wider, influence(wider)) == pytest.approx(standard_error(counts, influence(counts)))


def test_an_unequal_set_without_a_warning_holds_the_true_macro_f1_in_93_percent() -> None:
    """Six classes, the rarest with 2 % of the rows, where a bootstrap of 200 rows holds it in 84 %."""
    for accuracy in (0.7, 0.85, 0.95):
        known = population(UNEQUAL, accuracy)
        assert coverage(macro_f1_limits(draws(known, 500)), float(macro_f1(margins(known)))) > 0.93


def test_the_mean_of_equally_spread_values_has_students_interval() -> None:
    values = np.concatenate([np.linspace(-1, 1, 40)] * 5)
    half = student.ppf(0.975, 199) * values.std() / np.sqrt(200)
    assert mean_limits(values) == pytest.approx((-half, half), abs=1e-9)


def test_the_limits_of_a_mean_are_where_halls_transformation_is_students_quantile() -> None:
    losses = np.random.default_rng(0).exponential(1, 60) ** 2
    skewness = (((losses - losses.mean()) / losses.std()) ** 3).mean()
    for limit, sign in zip(mean_limits(losses), (1, -1), strict=True):
        t = (losses.mean() - limit) / losses.std()
        transformed = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / (6 * 60)
        assert np.sqrt(60) * transformed == pytest.approx(sign * student.ppf(0.975, 59))


def test_few_large_losses_are_allowed_for() -> None:
    """95 % of the losses are small, the rest about 3: Student's interval holds the mean in 92 % of tests, ours more."""
    rng = np.random.default_rng(3)
    wrong = rng.random((1500, 200)) < 0.05
    losses = np.where(wrong, rng.exponential(3, (1500, 200)), rng.exponential(0.05, (1500, 200)))
    true = 0.05 * 3 + 0.95 * 0.05
    half = student.ppf(0.975, 199) * losses.std(1) / np.sqrt(200)
    assert coverage((losses.mean(1) - half, losses.mean(1) + half), true) < 0.93
    assert 0.93 < coverage(mean_limits(losses), true) < 0.98


def warnings_of(found: Intervals) -> dict[str, str]:
    return {name: one.warning for name, one in found.scores.items() if one.warning}


def test_a_test_like_banking77_warns_of_nothing() -> None:
    truth = np.repeat(np.arange(77), 40)
    predicted = np.where(np.arange(3080) % 10, truth, (truth + 1) % 77)
    found = score_intervals(certain(predicted, 77), truth)
    assert warnings_of(found) == {}
    assert not any(one and one.warning for label in found.per_label for one in label.values())


def test_a_class_with_four_rows_makes_macro_f1_too_narrow() -> None:
    truth = np.repeat([0, 1, 2], [60, 60, 4])
    predicted = np.where(np.arange(124) % 10, truth, (truth + 1) % 3)
    found = score_intervals(certain(predicted, 3), truth)
    assert warnings_of(found) == {"macro_f1": "may be too narrow: 1 of 3 classes has fewer than 5 test rows"}
    recall = found.per_label[2]["recall"]
    assert recall is not None
    assert recall.warning == "may be too narrow: only 4 rows"


def test_few_mistakes_and_few_rows_outside_the_largest_class_are_said() -> None:
    truth = np.repeat([0, 1], [200, 6])
    predicted = truth.copy()
    predicted[:2] = 1
    said = warnings_of(score_intervals(certain(predicted, 2), truth))
    assert said["mcc"] == "may be too narrow: only 6 test rows are outside the most frequent class"
    assert said["log_loss"] == "may be too narrow: only 2 test rows are predicted wrongly"


def test_a_model_that_gives_one_label_is_not_called_certain() -> None:
    truth = np.arange(400) % 2
    found = score_intervals(certain(np.zeros(400, dtype=int), 2), truth).scores["mcc"]
    assert (found.low, found.high) == pytest.approx((-0.0975, 0.0975), abs=1e-3)
    alone = score_intervals(certain(np.zeros(400, dtype=int), 2), np.zeros(400, dtype=int)).scores["mcc"]
    assert (alone.low, alone.high) == (-1, 1)


def test_without_rows_there_is_no_interval() -> None:
    with pytest.raises(DataError, match="there are none"):
        score_intervals(np.zeros((0, 3)), np.zeros(0, dtype=int))
