"""The end of a run: test rows scored once, the model saved, everything written down."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from whet.config import Settings
from whet.data.check import Rows
from whet.data.split import Dataset
from whet.data.store import Part, Ragged, Targets, TokenStore
from whet.engine.forward import Forward
from whet.engine.job import Outcome
from whet.engine.precision import processes
from whet.engine.workload import MERGED_ROWS
from whet.errors import ModelError
from whet.evaluate.baselines import Absent, Baseline
from whet.evaluate.metrics import overfitting
from whet.models.adapters import merge as merge_adapters
from whet.models.load import save
from whet.models.others import save_head
from whet.plan.edits import Merge
from whet.runs.assemble import Assembled
from whet.runs.folder import Folder
from whet.runs.note import note_for
from whet.tasks.material import Tested
from whet.tasks.task import Task

MERGED = 1e-3
"""So much of the largest output may a merge change any of them, in fp32; rounding alone is far below."""


@dataclass(frozen=True)
class Scored:
    """What the model says of the test rows in fp32 (None without any), its scores, and, where training ran in another
    precision, how many predictions differ in that."""

    tested: Tested | None = None
    scores: dict[str, float] = field(default_factory=dict)
    precision: dict[str, Any] | None = None


def merge(parts: Assembled, valid: Part, settings: Settings) -> dict[str, Any] | None:
    """Merge the adapters where the plan says so, and compare the outputs before and after it in fp32 on up to 64
    validation rows; None where there is nothing to merge. Raises `ModelError` where they differ by more than rounding.
    """
    if parts.built.adapted is None or not any(isinstance(edit, Merge) for edit in parts.plan.finish):
        return None
    rows = valid.store.take(np.arange(min(MERGED_ROWS, len(valid.store))))
    forward = Forward(parts.built.model, processes(), "fp32", settings.tokens_at_once)
    before = flat(forward.all(rows))
    merge_adapters(parts.built.adapted)
    parts.built.adapted = None
    difference, largest = float(np.abs(flat(forward.all(rows)) - before).max()), float(np.abs(before).max())
    if not difference <= MERGED * largest:
        raise ModelError(
            f"merging the adapters changed the outputs for {len(rows)} rows by up to {difference:.3g}, where the "
            f"largest is {largest:.3g}: more than rounding. Leave merge out to keep the adapters as they are"
        )
    return {"rows": len(rows), "largest_difference": difference, "largest_output": largest}


def flat(outputs: Targets) -> np.ndarray:
    """All outputs as one array, whatever they are of."""
    return outputs.values if isinstance(outputs, Ragged) else outputs


def finish(parts: Assembled, valid: Part, settings: Settings) -> dict[str, Any]:
    """What the task finds out on the validation rows after training; some of it goes into the model's weights."""

    def outputs() -> Targets:
        return Forward(parts.built.model, processes(), "fp32", settings.tokens_at_once).all(valid.store)

    parts.task, learnt = parts.task.finish(parts.built.model, outputs, valid, settings)
    return learnt


def kept_task(task: Task) -> dict[str, Any]:
    """What run.json and head.json keep of a task."""
    return {"name": task.name, "state": task.state()}


def score_test(
    parts: Assembled, rows: Rows, test: Part, settings: Settings, precision: str, learnt: dict[str, Any]
) -> Scored:
    """The test rows, scored as plain transformers scores them from the saved folder."""
    if not len(test.targets):
        return Scored()
    task, model, place = parts.task, parts.built.model, processes()
    outputs = Forward(model, place, "fp32", settings.tokens_at_once).all(test.store)
    predicted = task.decode(outputs, test)
    tested = Tested(rows, test, outputs, task.truth(rows), predicted, learnt)
    scores = task.measure(tested.truth, predicted)
    if precision == "fp32":
        return Scored(tested, scores)
    other = task.decode(Forward(model, place, precision, settings.tokens_at_once).all(test.store), test)
    said = zip(task.said(other), task.said(predicted), strict=True)
    differing = sum(one["prediction"] != two["prediction"] for one, two in said)
    largest = max(float(np.abs(one - two).max()) for one, two in zip(other, predicted, strict=True))
    facts = {"compared": precision, "predictions_that_differ": differing, "largest_difference": largest}
    return Scored(tested, scores, facts)


def keep_model(folder: Folder, parts: Assembled) -> None:
    """Write `model/`: whole, or not there."""
    temporary, final = folder.path / ".model", folder.path / "model"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(final, ignore_errors=True)
    temporary.mkdir()
    task = parts.task
    note = note_for(parts.built, task.labels, parts.source, parts.max_length, task.used(parts.tokenizer))
    save(parts.source, parts.built, parts.tokenizer, task.output, temporary, note, kept_task(task))
    for pool in parts.pools:
        if pool.head is not None:
            own = temporary / "heads" / Path(pool.key[0]).stem
            save_head(parts.others[pool.head].model, pool.task.output, kept_task(pool.task), own)
    temporary.rename(final)


def result(
    out: Path,
    dataset: Dataset,
    parts: Assembled,
    outcome: Outcome,
    scored: Scored,
    merged: dict[str, Any] | None,
    stores: Mapping[str, TokenStore],
) -> dict[str, Any]:
    """The part of metrics.json that says what ran and what came of it; each key is described in
    docs/guide/run-folder.md."""
    kept, position, plan = outcome.kept, outcome.position, parts.plan
    moved = frozenset().union(*(phase.train.on(parts.anatomy) for phase in plan.phases))
    phase = plan.phases[kept.phase].name
    return {
        "out": str(out),
        "task": parts.task.described(),
        "test": scored.scores,
        "valid": kept.scores,
        "kept": {"step": kept.step, "of": position.done, "phase": phase, "reason": outcome.kept_as},
        "phases": [{"phase": p.name, **e.model_dump()} for p, e in zip(plan.phases, position.ended, strict=True)],
        "overfitting_since": overfitting(position.history),
        "moved": sum(p.size for p in parts.anatomy.parameters if p.name in moved),
        "rows": row_counts(dataset),
        "dropped": dict(dataset.findings.dropped),
        "truncated": truncated(stores),
        "peak_memory_mb": round(outcome.peak_memory_mb, 1),
        "precision": scored.precision,
        "merge": merged,
        "plan": plan.model_dump(mode="json"),
    }


def write_predictions(path: Path, task: Task, tested: Tested, found: Sequence[Baseline | Absent]) -> None:
    """One line per test row: truth, prediction and what stands beside it, text, and what each baseline predicted."""
    rows = tested.rows
    others = {
        one.name: [task.cell("prediction", said["prediction"], 6) for said in task.shown(rows, one.test)]
        for one in found
        if isinstance(one, Baseline)
    }
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["row", "truth", *task.blank(), *inputs_of(rows), *others])
        columns = (rows.lines, task.said_in_truth(rows), task.shown(rows, tested.predicted), *inputs_of(rows).values())
        for number, (line, truth, said, *texts) in enumerate(zip(*columns, strict=True)):
            own = [task.cell(name, value, 6) for name, value in said.items()]
            writer.writerow(
                [
                    line,
                    task.cell("truth", truth, 6),
                    *own,
                    *texts,
                    *(predicted[number] for predicted in others.values()),
                ]
            )


def inputs_of(rows: Rows) -> dict[str, tuple[str, ...]]:
    """What rows are predicted from, by column."""
    return {"text": rows.texts, **({"text_b": rows.seconds} if rows.seconds else {})}


def row_counts(dataset: Dataset) -> dict[str, int]:
    return {name: len(getattr(dataset, name)) for name in ("train", "valid", "test")}


def truncated(stores: Mapping[str, TokenStore]) -> dict[str, int]:
    """Rows cut, tokens lost by it, and the length at which they were cut, over all parts."""
    return {
        "rows": sum(store.truncated for store in stores.values()),
        "tokens": sum(store.tokens_lost for store in stores.values()),
        "max_length": next(iter(stores.values())).max_length,
    }
