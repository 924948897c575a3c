"""What the test rows prove: intervals, comparisons with the baselines, calibration, mistakes, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from whet.config import Settings
from whet.data.split import Dataset
from whet.engine.job import Outcome
from whet.evaluate import mistakes
from whet.evaluate.baselines import Absent, Baseline
from whet.evaluate.calibration import expected_calibration_error, reliability
from whet.evaluate.facts import ClassFacts, Facts, Metric, Paired, Reference, Score
from whet.evaluate.intervals import Interval, score_intervals
from whet.evaluate.metrics import classification, overfitting
from whet.evaluate.paired import compare, rows_to_tell
from whet.evaluate.verdict import verdict
from whet.runs.forgetting import keeping_more, lost
from whet.tasks.classification import Classification

METRICS = {
    "accuracy": Metric("accuracy"),
    "macro_f1": Metric("macro-F1"),
    "mcc": Metric("MCC", percent=False),
    "log_loss": Metric("log-loss", lower_is_better=True, percent=False),
}
MOST = 50
"""Mistakes and doubts of each kind that are kept."""


def proof(
    dataset: Dataset,
    task: Classification,
    settings: Settings,
    outcome: Outcome,
    outputs: np.ndarray | None,
    found: Sequence[Baseline | Absent],
    temperature: float | None,
    forgetting: dict[str, Any] | None,
) -> dict[str, Any]:
    """The part of metrics.json that says what the scores are worth. `outputs` are those of the test rows, if any;
    `temperature` is what they have been divided by, if they were; `forgetting` what was measured of it."""
    metric, kept = settings.metric, outcome.kept
    since = overfitting(outcome.position.history)
    valid = score_of(metric, kept.scores, len(dataset.valid), None)
    gone, more = lost(forgetting), keeping_more(settings.strategy)
    if outputs is None:
        said = verdict(Facts(metric=METRICS[metric], test=None, valid=valid, lost=gone, keeping_more=more))
        return {"verdict": worded(said), "intervals": {"test": {}}, "baselines": [], "calibration": None}
    truth, valid_truth, probabilities = task.targets(dataset.test), task.targets(dataset.valid), task.decode(outputs)
    scores, details = task.score(outputs, truth), task.details(outputs, truth)
    known = score_intervals(probabilities, truth, seed=settings.seed)
    held = [against(one, metric, probabilities, truth, valid_truth, task.labels, settings.seed) for one in found]
    rows = per_label(details["per_label"], known.per_label, truth, probabilities.argmax(1), task.labels)
    calibration = calibration_of(task, outputs, truth, temperature)
    facts = Facts(
        metric=METRICS[metric],
        test=score_of(metric, scores, len(truth), known.scores[metric]),
        valid=valid,
        baselines=tuple(reference(one, metric) for one in held if "comparison" in one),
        missing=tuple((one.title, one.reason) for one in found if isinstance(one, Absent)),
        classes=tuple(ClassFacts(*(row[n] for n in ("label", "support", "predicted", "recall", "f1"))) for row in rows),
        accuracy=scores["accuracy"],
        macro_f1=scores["macro_f1"],
        overfitting_since=since,
        kept_before_overfitting=since is not None and kept.step <= since,
        calibration_error=calibration["ece"],
        interval_warnings=tuple(f"{name}: {one.warning}" for name, one in known.scores.items() if one.warning),
        lost=gone,
        keeping_more=more,
    )
    return {
        "verdict": worded(verdict(facts)),
        "intervals": {"test": {name: asdict(one) for name, one in known.scores.items()}},
        "baselines": held,
        "calibration": calibration,
        "per_label": rows,
        "confusion": details["confusion"],
        "mistakes": went_wrong(truth, probabilities, task.labels, dataset.test.lines),
    }


def calibration_of(
    task: Classification, outputs: np.ndarray, truth: np.ndarray, temperature: float | None
) -> dict[str, Any]:
    """How far confidence is from accuracy, and how far it was before the temperature."""
    probabilities = task.decode(outputs)
    before = None if temperature is None else expected_calibration_error(task.decode(outputs * temperature), truth)
    return {
        "ece": expected_calibration_error(probabilities, truth),
        "ece_before": before,
        "temperature": temperature,
        "bins": [asdict(one) for one in reliability(probabilities, truth)],
    }


def score_of(metric: str, scores: dict[str, float], rows: int, interval: Interval | None) -> Score:
    limits = (None, None) if interval is None else (interval.low, interval.high)
    return Score(scores[metric], rows, *limits)


def against(
    one: Baseline | Absent,
    metric: str,
    probabilities: np.ndarray,
    truth: np.ndarray,
    valid_truth: np.ndarray,
    labels: tuple[str, ...],
    seed: int,
) -> dict[str, Any]:
    """A baseline in figures, and how ours differs from it on the same test rows."""
    if isinstance(one, Absent):
        return {"name": one.name, "title": one.title, "absent": one.reason}
    known = score_intervals(one.test, truth, seed=seed)
    found = compare(metric, probabilities, one.test, truth, seed=seed)
    return {
        "name": one.name,
        "title": one.title,
        "settings": {"label": labels[int(one.settings["class"])]} if "class" in one.settings else one.settings,
        "cuts": list(one.cuts),
        "test": classification(truth, one.test),
        "valid": classification(valid_truth, one.valid),
        "intervals": {name: asdict(interval) for name, interval in known.scores.items()},
        "seconds": round(one.seconds, 2),
        "comparison": {**asdict(found), "rows_to_tell": rows_to_tell(found)},
    }


def reference(held: dict[str, Any], metric: str) -> Reference:
    own = held["comparison"]
    sign = -1 if METRICS[metric].lower_is_better else 1
    low, high = sorted((sign * own["low"], sign * own["high"]))
    paired = Paired(sign * own["difference"], low, high, own["p_value"], own["rows_to_tell"])
    return Reference(held["name"], held["title"], held["test"][metric], paired)


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


def worded(said: Any) -> dict[str, Any]:
    findings = [{"kind": finding.kind, "text": finding.text} for finding in said.findings]
    return {"outcome": said.outcome, "headline": said.headline, "findings": findings, "against": said.against}
