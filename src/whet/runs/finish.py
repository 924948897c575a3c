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
from whet.data.split import Dataset
from whet.data.store import TokenStore
from whet.engine.forward import Forward
from whet.engine.gradient import Part
from whet.engine.job import Outcome
from whet.engine.precision import processes
from whet.engine.workload import MERGED_ROWS
from whet.errors import ModelError
from whet.evaluate.baselines import Absent, Baseline
from whet.evaluate.metrics import overfitting
from whet.models.adapters import merge as merge_adapters
from whet.models.load import save
from whet.models.others import save_head
from whet.models.temperature import divide_outputs
from whet.plan.edits import Merge
from whet.runs.assemble import Assembled
from whet.runs.folder import Folder
from whet.runs.note import note_for

MERGED = 1e-3
"""So much of the largest output may a merge change any of them, in fp32; rounding alone is far below."""


@dataclass(frozen=True)
class Scored:
    """Test outputs in fp32 (None without test rows), their scores, and, where training ran in another precision, how
    many predictions differ in that."""

    outputs: np.ndarray | None = None
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
    before = forward.all(rows)
    merge_adapters(parts.built.adapted)
    parts.built.adapted = None
    difference, largest = float(np.abs(forward.all(rows) - before).max()), float(np.abs(before).max())
    if not difference <= MERGED * largest:
        raise ModelError(
            f"merging the adapters changed the outputs for {len(rows)} rows by up to {difference:.3g}, where the "
            f"largest is {largest:.3g}: more than rounding. Leave merge out to keep the adapters as they are"
        )
    return {"rows": len(rows), "largest_difference": difference, "largest_output": largest}


def calibrate(parts: Assembled, valid: Part, settings: Settings) -> float:
    """Fit a temperature on the validation rows and put it into the model's last layer; returns it."""
    from whet.evaluate.calibration import fit_temperature  # slow to import

    outputs = Forward(parts.built.model, processes(), "fp32", settings.tokens_at_once).all(valid.store)
    temperature = fit_temperature(outputs, valid.targets)
    divide_outputs(parts.built.model, parts.task.outputs, temperature)
    return temperature


def score_test(parts: Assembled, test: Part, settings: Settings, precision: str) -> Scored:
    """The test rows, scored as plain transformers scores them from the saved folder."""
    if not len(test.targets):
        return Scored()
    model, place = parts.built.model, processes()
    outputs = Forward(model, place, "fp32", settings.tokens_at_once).all(test.store)
    scores = parts.task.score(outputs, test.targets)
    if precision == "fp32":
        return Scored(outputs, scores)
    other = Forward(model, place, precision, settings.tokens_at_once).all(test.store)
    differing = int((other.argmax(1) != outputs.argmax(1)).sum())
    largest = float(np.abs(parts.task.decode(other) - parts.task.decode(outputs)).max())
    facts = {"compared": precision, "predictions_that_differ": differing, "largest_difference": largest}
    return Scored(outputs, scores, facts)


def keep_model(folder: Folder, parts: Assembled) -> None:
    """Write `model/`: whole, or not there."""
    temporary, final = folder.path / ".model", folder.path / "model"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(final, ignore_errors=True)
    temporary.mkdir()
    note = note_for(parts.built, parts.task.labels, parts.source, parts.max_length)
    save(parts.source, parts.built, parts.tokenizer, parts.task.labels, temporary, note)
    for pool in parts.pools:
        if pool.head is not None:
            own = temporary / "heads" / Path(pool.key[0]).stem
            save_head(parts.others[pool.head].model, pool.task.labels, own)
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


def write_predictions(
    path: Path, dataset: Dataset, parts: Assembled, outputs: np.ndarray, found: Sequence[Baseline | Absent]
) -> None:
    """One line per test row: truth, prediction with its probability, text, and what each baseline predicted."""
    probabilities, labels, test = parts.task.decode(outputs), parts.task.labels, dataset.test
    others = {one.name: one.test.argmax(1) for one in found if isinstance(one, Baseline)}
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["row", "truth", "prediction", "probability", "text", *others])
        for number, (line, truth, text) in enumerate(zip(test.lines, test.labels, test.texts, strict=True)):
            row = probabilities[number]
            best = int(row.argmax())
            theirs = [labels[int(predicted[number])] for predicted in others.values()]
            writer.writerow([line, truth, labels[best], f"{row[best]:.6f}", text, *theirs])


def row_counts(dataset: Dataset) -> dict[str, int]:
    return {name: len(getattr(dataset, name)) for name in ("train", "valid", "test")}


def truncated(stores: Mapping[str, TokenStore]) -> dict[str, int]:
    """Rows cut, tokens lost by it, and the length at which they were cut, over all parts."""
    return {
        "rows": sum(store.truncated for store in stores.values()),
        "tokens": sum(store.tokens_lost for store in stores.values()),
        "max_length": next(iter(stores.values())).max_length,
    }
