"""What the test rows prove: intervals, comparisons with the baselines, what the task shows of them, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from whet.config import Settings
from whet.data.split import Dataset
from whet.engine.job import Outcome
from whet.evaluate.baselines import Absent, Baseline
from whet.evaluate.facts import Facts, Metric, Paired, Reference, Score
from whet.evaluate.intervals import Interval
from whet.evaluate.metrics import overfitting
from whet.evaluate.paired import rows_to_tell
from whet.evaluate.verdict import verdict
from whet.runs.forgetting import keeping_more, lost
from whet.tasks.material import Tested
from whet.tasks.task import Task


def proof(
    dataset: Dataset,
    task: Task,
    settings: Settings,
    outcome: Outcome,
    tested: Tested | None,
    found: Sequence[Baseline | Absent],
    forgetting: dict[str, Any] | None,
) -> dict[str, Any]:
    """The part of metrics.json that says what the scores are worth. `tested` is what the model said of the test rows,
    if there are any; `forgetting` what was measured of it."""
    metric, kept = task.measured_by, outcome.kept
    since = overfitting(outcome.position.history)
    valid = score_of(kept.scores[task.metric], len(dataset.valid), None)
    gone, more = lost(forgetting), keeping_more(settings.strategy)
    if tested is None:
        said = verdict(Facts(metric=metric, test=None, valid=valid, lost=gone, keeping_more=more))
        return {"verdict": worded(said), "intervals": {"test": {}}, "baselines": []}
    truth, valid_truth = tested.truth, task.truth(dataset.valid)
    scores, panels = task.measure(truth, tested.predicted), task.panels(tested)
    known = task.intervals(truth, tested.predicted, settings.seed)
    held = [against(one, task, tested.predicted, truth, valid_truth, settings.seed) for one in found]
    facts = Facts(
        metric=metric,
        test=score_of(scores[task.metric], len(truth), known[task.metric]),
        valid=valid,
        baselines=tuple(reference(one, task.metric, metric) for one in held if "comparison" in one),
        missing=tuple((one.title, one.reason) for one in found if isinstance(one, Absent)),
        overfitting_since=since,
        kept_before_overfitting=since is not None and kept.step <= since,
        interval_warnings=tuple(f"{name}: {one.warning}" for name, one in known.items() if one.warning),
        lost=gone,
        keeping_more=more,
        **task.facts(scores, panels),
    )
    intervals = {"test": {name: asdict(one) for name, one in known.items()}}
    return {"verdict": worded(verdict(facts)), "intervals": intervals, "baselines": held, **panels}


def score_of(value: float, rows: int, interval: Interval | None) -> Score:
    limits = (None, None) if interval is None else (interval.low, interval.high)
    return Score(value, rows, *limits)


def against(
    one: Baseline | Absent, task: Task, predicted: np.ndarray, truth: np.ndarray, valid_truth: np.ndarray, seed: int
) -> dict[str, Any]:
    """A baseline in figures, and how ours differs from it on the same test rows."""
    if isinstance(one, Absent):
        return {"name": one.name, "title": one.title, "absent": one.reason}
    known = task.intervals(truth, one.test, seed)
    found = task.compare(predicted, one.test, truth, seed)
    return {
        "name": one.name,
        "title": one.title,
        "settings": task.chosen(one),
        "cuts": list(one.cuts),
        "test": task.measure(truth, one.test),
        "valid": task.measure(valid_truth, one.valid),
        "intervals": {name: asdict(interval) for name, interval in known.items()},
        "seconds": round(one.seconds, 2),
        "comparison": {**asdict(found), "rows_to_tell": rows_to_tell(found)},
    }


def reference(held: dict[str, Any], name: str, metric: Metric) -> Reference:
    own = held["comparison"]
    sign = -1 if metric.lower_is_better else 1
    low, high = sorted((sign * own["low"], sign * own["high"]))
    paired = Paired(sign * own["difference"], low, high, own["p_value"], own["rows_to_tell"])
    return Reference(held["name"], held["title"], held["test"][name], paired)


def worded(said: Any) -> dict[str, Any]:
    findings = [{"kind": finding.kind, "text": finding.text} for finding in said.findings]
    return {"outcome": said.outcome, "headline": said.headline, "findings": findings, "against": said.against}
