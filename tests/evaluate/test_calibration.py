"""Confidence against accuracy, and the temperature that brings them together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from whet.errors import DataError
from whet.evaluate.calibration import (
    TEMPERATURES,
    calibration_error_limits,
    expected_calibration_error,
    fit_temperature,
    reliability,
)

Rows = tuple[np.ndarray, np.ndarray]


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    """Outputs (N x C) to three decimals, of models from hopeless to perfect and from timid to far too sure, and label
    numbers (N)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    size, labels = draw(st.integers(1, 80)), draw(st.integers(2, 6))
    truth = rng.integers(0, labels, size)
    outputs = rng.normal(size=(size, labels)) + draw(st.sampled_from([-3, 0, 1, 9])) * np.eye(labels)[truth]
    return np.round(draw(st.sampled_from([0.01, 1, 30])) * outputs, 3), truth


def two_labels(confidence: np.ndarray, right: np.ndarray) -> Rows:
    return np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)


@settings(max_examples=60, deadline=None)
@given(rows())
def test_the_bins_hold_every_row_once_and_make_up_the_error(case: Rows) -> None:
    outputs, truth = case
    probabilities = softmax(outputs, axis=1)
    bins = reliability(probabilities, truth)
    confidence = probabilities.max(1)
    assert sum(one.rows for one in bins) == len(truth)
    assert [one.low for one in bins[1:]] == [one.high for one in bins[:-1]]
    filled = [one for one in bins if one.rows]
    for one in filled:
        assert one.confidence is not None
        assert one.low - 1e-12 < one.confidence <= one.high + 1e-12
        assert ((confidence > one.low) & (confidence <= one.high)).sum() == pytest.approx(one.rows, abs=1)
    error = sum(one.rows * abs(one.accuracy - one.confidence) for one in filled) / len(truth)  # type: ignore[operator]
    assert expected_calibration_error(probabilities, truth) == pytest.approx(error)
    assert all(one.confidence is None and one.accuracy is None for one in bins if not one.rows)


def test_the_error_by_hand() -> None:
    """Four rows at 0.9 of which three are right, four at 0.6 of which one is: (0.15 + 0.35) / 2."""
    confidence = np.repeat([0.9, 0.6], 4)
    probabilities, truth = two_labels(confidence, np.array([1, 1, 1, 0, 1, 0, 0, 0]))
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.25)


def test_certain_rows_are_in_the_last_bin() -> None:
    bins = reliability(*two_labels(np.ones(5), np.ones(5)))
    assert len(bins) == 15
    assert (bins[-1].rows, bins[-1].confidence, bins[-1].accuracy) == (5, 1.0, 1.0)


def test_a_bin_holds_its_upper_edge() -> None:
    bins = reliability(*two_labels(np.array([0.6, 0.8]), np.ones(2)))
    assert [(one.low, one.high) for one in bins if one.rows] == [(8 / 15, 9 / 15), (11 / 15, 12 / 15)]


def simulated(rng: np.random.Generator, size: int, too_high: float) -> Rows:
    confidence = 0.6 + 0.4 * rng.random(size)
    return two_labels(confidence, rng.random(size) < confidence - too_high)


def test_probabilities_that_hold_have_an_interval_from_zero() -> None:
    """Their measured error is above zero in every test, so intervals around it would hold the truth in none."""
    rng = np.random.default_rng(0)
    found = [simulated(rng, 500, 0.0) for _ in range(100)]
    assert min(expected_calibration_error(*one) for one in found) > 0.01
    assert np.mean([calibration_error_limits(*one)[0] == 0 for one in found]) > 0.9


def test_the_interval_of_the_error_holds_the_true_one() -> None:
    rng = np.random.default_rng(1)
    found = [calibration_error_limits(*simulated(rng, 500, 0.1)) for _ in range(150)]
    assert np.mean([low <= 0.1 <= high for low, high in found]) > 0.88
    assert np.mean([high - low for low, high in found]) < 0.1


@settings(max_examples=60, deadline=None)
@given(rows(), st.integers(0, 5))
def test_the_interval_of_the_error_is_a_pure_function(case: Rows, seed: int) -> None:
    probabilities, truth = softmax(case[0], axis=1), case[1]
    low, high = calibration_error_limits(probabilities, truth, seed=seed)
    assert 0 <= low <= high <= 1
    assert calibration_error_limits(probabilities, truth, seed=seed) == (low, high)


@settings(max_examples=60, deadline=None)
@given(rows())
def test_a_temperature_leaves_every_prediction(case: Rows) -> None:
    outputs, truth = case
    temperature = fit_temperature(outputs, truth)
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    assert ((outputs / temperature).argmax(1) == outputs.argmax(1)).all()


@settings(max_examples=60, deadline=None)
@given(rows())
def test_no_temperature_is_worse_than_the_fitted_one(case: Rows) -> None:
    """On the rows it was fitted on, one is not, nor are its neighbours and the bounds."""
    outputs, truth = case
    if (outputs[np.arange(len(truth)), truth] == outputs.max(1)).all():
        assert fit_temperature(outputs, truth) == 1
        return

    def loss(temperature: float) -> float:
        scaled = outputs / temperature
        highest = scaled.max(1, keepdims=True)
        logs = scaled - highest - np.log(np.exp(scaled - highest).sum(1, keepdims=True))
        return float(-logs[np.arange(len(truth)), truth].mean())

    found = fit_temperature(outputs, truth)
    tried = [1.0, *TEMPERATURES, *np.clip([found * 0.9, found * 1.1], *TEMPERATURES)]
    assert loss(found) <= min(map(loss, tried)) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_temperature_that_made_the_outputs_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(20_000, 4)) * 2
    chances = softmax(outputs, axis=1)
    truth = (rng.random((20_000, 1)) > chances.cumsum(1)).sum(1).clip(0, 3)
    found = fit_temperature(true * outputs, truth)
    assert found == pytest.approx(true, rel=0.05)
    before, after = (
        expected_calibration_error(softmax(scaled, axis=1), truth)
        for scaled in (true * outputs, true * outputs / found)
    )
    assert after < 0.015
    assert after <= before + 0.002


def test_rows_that_are_all_right_set_no_temperature() -> None:
    truth = np.arange(30) % 3
    assert fit_temperature(5 * np.eye(3)[truth], truth) == 1
    # One mistake is enough to set one.
    outputs = 5 * np.eye(3)[truth]
    outputs[0] = outputs[0][::-1]
    assert 1 < fit_temperature(outputs, truth) < TEMPERATURES[1]


def test_outputs_that_know_less_than_nothing_reach_the_bound() -> None:
    truth = np.arange(30) % 3
    assert fit_temperature(-5 * np.eye(3)[truth], truth) == pytest.approx(TEMPERATURES[1])


def test_without_rows_nothing_is_measured() -> None:
    none = np.zeros((0, 2)), np.zeros(0, dtype=int)
    for function in (expected_calibration_error, reliability, fit_temperature, calibration_error_limits):
        with pytest.raises(DataError, match="there are none"):
            function(*none)
