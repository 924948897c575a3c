"""What a report shows of classes, from the test rows: figures of each, confidence, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from whet.evaluate import mistakes
from whet.evaluate.calibration import expected_calibration_error, reliability
from whet.evaluate.intervals import Interval

MOST = 50
"""Mistakes and doubts of each kind that are kept."""


def calibration(
    probabilities: np.ndarray, before: np.ndarray | None, truth: np.ndarray, temperature: float | None
) -> dict[str, Any]:
    """How far confidence is from accuracy, and how far it was `before` the temperature, if there is one."""
    return {
        "ece": expected_calibration_error(probabilities, truth),
        "ece_before": None if before is None else expected_calibration_error(before, truth),
        "temperature": temperature,
        "bins": [asdict(one) for one in reliability(probabilities, truth)],
    }


def per_label(
    rows: list[dict[str, Any]],
    intervals: Sequence[dict[str, Interval | None]],
    truth: np.ndarray,
    predicted: np.ndarray,
    labels: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The figures of each class with their intervals, how often it was predicted, and what it costs."""
    costs = {cost.label: cost for cost in mistakes.costs(truth, predicted, labels)}
    times = np.bincount(predicted, minlength=len(labels))
    made = []
    for row, own, count in zip(rows, intervals, times, strict=True):
        cost = costs.get(row["label"])
        limits = {name: None if one is None else {"low": one.low, "high": one.high} for name, one in own.items()}
        wrong = {"mistakes": cost.mistakes if cost else 0, "cost": cost.lost if cost else 0.0}
        made.append({**row, "predicted": int(count), **wrong, "intervals": limits})
    return made


def went_wrong(
    truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...], lines: Sequence[int]
) -> dict[str, Any]:
    """The surest mistakes, the pairs confused most often, rows whose label is in doubt; rows by line of their file."""
    sure = mistakes.confident(truth, probabilities, labels, MOST)
    pairs = mistakes.confused(truth, probabilities.argmax(1), labels, MOST)
    doubts = mistakes.doubted(truth, probabilities, labels)[:MOST]
    return {
        "confident": [
            {"row": lines[m.index], "truth": m.truth, "prediction": m.prediction, "probability": m.probability}
            for m in sure
        ],
        "confused": [{"truth": c.truth, "prediction": c.prediction, "rows": c.count, "share": c.share} for c in pairs],
        "doubted": [
            {
                "row": lines[d.index],
                "label": d.given,
                "probability": d.of_given,
                "suggested": d.suggested,
                "suggested_probability": d.of_suggested,
            }
            for d in doubts
        ],
    }
