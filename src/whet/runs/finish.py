"""The end of a run: test rows scored once, the model saved, everything written down."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whet.config import Settings
from whet.data.split import Dataset
from whet.data.store import TokenStore
from whet.engine.forward import Forward
from whet.engine.loop import Outcome
from whet.engine.precision import processes
from whet.evaluate.metrics import overfitting
from whet.models.load import save
from whet.runs.assemble import Assembled
from whet.runs.folder import Folder
from whet.runs.note import note_for


def score_test(parts: Assembled, test: Any, settings: Settings, precision: str) -> dict[str, Any]:
    """Test outputs in fp32, as plain transformers gives them from the saved folder; and, where training ran in
    another precision, how many predictions differ in that."""
    if not len(test.targets):
        return {"scores": {}}
    model, place = parts.built.model, processes()
    outputs = Forward(model, place, "fp32", settings.token_budget).all(test.store)
    found = {"outputs": outputs, "scores": parts.task.score(outputs, test.targets)}
    if precision != "fp32":
        other = Forward(model, place, precision, settings.token_budget).all(test.store)
        differing = int((other.argmax(1) != outputs.argmax(1)).sum())
        largest = float(np.abs(parts.task.decode(other) - parts.task.decode(outputs)).max())
        found["precision"] = {
            "compared": precision,
            "predictions_that_differ": differing,
            "largest_difference": largest,
        }
    return found


def keep_model(folder: Folder, parts: Assembled) -> None:
    """Write `model/`: whole, or not there."""
    temporary, final = folder.path / ".model", folder.path / "model"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(final, ignore_errors=True)
    temporary.mkdir()
    note = note_for(parts.built.head, parts.task.labels, parts.source, parts.max_length)
    save(parts.source, parts.built, parts.tokenizer, parts.task.labels, temporary, note)
    temporary.rename(final)


def result(
    out: Path,
    dataset: Dataset,
    parts: Assembled,
    outcome: Outcome,
    scored: Mapping[str, Any],
    stores: Mapping[str, TokenStore],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What metrics.json and `--json` hold; each key is described in docs/guide/run-folder.md."""
    kept, position, plan = outcome.kept, outcome.position, parts.plan
    moved = frozenset().union(*(phase.train.on(parts.anatomy) for phase in plan.phases))
    phase, outputs = plan.phases[kept.phase].name, scored.get("outputs")
    return {
        "out": str(out),
        "test": scored["scores"],
        "valid": kept.scores,
        "kept": {"step": kept.step, "of": position.done, "phase": phase, "reason": outcome.kept_as},
        "phases": [{"phase": p.name, **e.model_dump()} for p, e in zip(plan.phases, position.ended, strict=True)],
        "overfitting_since": overfitting(position.history),
        "moved": sum(p.size for p in parts.anatomy.parameters if p.name in moved),
        "rows": row_counts(dataset),
        "dropped": dict(dataset.findings.dropped),
        "truncated": truncated(stores),
        "seconds": seconds,
        "peak_memory_mb": round(outcome.peak_memory_mb, 1),
        "precision": scored.get("precision"),
        "plan": plan.model_dump(mode="json"),
        **({} if outputs is None else parts.task.details(outputs, parts.task.targets(dataset.test))),
    }


def write_predictions(path: Path, dataset: Dataset, parts: Assembled, outputs: np.ndarray) -> None:
    probabilities = parts.task.decode(outputs)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["row", "truth", "prediction", "probability", "text"])
        for line, truth, row, text in zip(
            dataset.test.lines, dataset.test.labels, probabilities, dataset.test.texts, strict=True
        ):
            best = int(row.argmax())
            writer.writerow([line, truth, parts.task.labels[best], f"{row[best]:.6f}", text])


def row_counts(dataset: Dataset) -> dict[str, int]:
    return {name: len(getattr(dataset, name)) for name in ("train", "valid", "test")}


def truncated(stores: Mapping[str, TokenStore]) -> dict[str, int]:
    """Rows cut, tokens lost by it, and the length at which they were cut, over all parts."""
    return {
        "rows": sum(store.truncated for store in stores.values()),
        "tokens": sum(store.tokens_lost for store in stores.values()),
        "max_length": next(iter(stores.values())).max_length,
    }
