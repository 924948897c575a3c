"""The path of a run, top to bottom: read, assemble, train, score the test rows once, save."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from whet.config import Resolved, Settings
from whet.data.read import Table, read
from whet.data.split import Dataset, prepare
from whet.data.store import TokenStore
from whet.engine.capture import cache_folder, identity
from whet.engine.forward import Forward
from whet.engine.loop import Job, Loop, Outcome
from whet.engine.precision import choose_precision, processes
from whet.errors import Interrupted, RunError, TrainingError
from whet.evaluate.metrics import overfitting
from whet.models.load import save
from whet.plan.explain import PhaseFacts, explain
from whet.plan.strategy import Strategy
from whet.plan.values import Plan
from whet.runs.assemble import Assembled, assemble, use_attention_for
from whet.runs.folder import FORMAT, Folder
from whet.runs.note import note_for

Watch = Callable[[dict[str, Any]], None]


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.begun = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - begun, 3)

    def total(self) -> dict[str, float]:
        return {**self.seconds, "total": round(time.monotonic() - self.begun, 3)}


def begin(resolved: Resolved, data: Any, watch: Watch) -> Folder:
    """A new run, from the rows to the result. The folder is removed again if anything fails before training."""
    clock = Stopwatch()
    name = Path(data).stem if isinstance(data, str | Path) else "run"
    folder = claim(resolved.settings.out, name)
    try:
        with clock.stage("read"):
            table = read(data)
            dataset = read_rows(resolved.settings, table)
        for note in dataset.findings.notes:
            watch({"note": note})
        with clock.stage("model"):
            parts = assemble(resolved, dataset)
        place = processes()
        place.wait_for_everyone()
        if place.is_main_process:
            source = str(Path(data).resolve()) if isinstance(data, str | Path) else keep_rows(folder, table)
            record_start(folder, resolved, source, dataset, parts)
    except BaseException:
        folder.discard()
        raise
    return train(folder, resolved.settings, dataset, parts, clock, watch)


def claim(out: str | None, name: str) -> Folder:
    """A new run folder, one for all processes: the main one creates it and tells the others which."""
    path = [str(Folder.claim(out, name).path) if processes().is_main_process else ""]
    return Folder(Path(broadcast_object_list(path)[0]))


def go_on(path: str | Path, watch: Watch) -> Folder:
    """Finish an interrupted run as if it had never been. Raises `RunError` where rows or model have changed."""
    clock = Stopwatch()
    folder = Folder.open(path)
    if folder.finished:
        raise RunError(f"the run in {path} is finished already; use it: whet predict {path} FILE")
    asked = folder.read_json("run.json")
    settings = Settings.model_validate(asked["settings"])
    plan = folder.read_plan()
    named = Strategy(str(settings.strategy), lambda *_: plan)
    resolved = Resolved(verb=asked["verb"], settings=settings, sources=asked["sources"], strategy=named)
    with clock.stage("read"):
        dataset = read_rows(settings, asked["data"]["source"])
    for part, fingerprint in dataset.fingerprints.items():
        if fingerprint != asked["data"]["fingerprints"][part]:
            raise RunError(f"the {part} rows have changed since this run was started; start a new one for them")
    with clock.stage("model"):
        parts = assemble(resolved, dataset, plan)
    if parts.source.sha256 != asked["model"]["sha256"]:
        raise RunError(f"the weights of {settings.model} have changed since this run was started; start a new one")
    changed = {key: value for key, value in here(settings).items() if asked["machine"].get(key) != value}
    if processes().is_main_process:
        folder.event("resumed", changed=changed)
    if changed:
        names = ", ".join(f"{key} {asked['machine'].get(key)} -> {value}" for key, value in changed.items())
        watch(
            {"note": f"this is not the machine that the run began on ({names}): equal up to rounding, not bit for bit"}
        )
    return train(folder, settings, dataset, parts, clock, watch)


def read_rows(settings: Settings, data: Any) -> Dataset:
    options = {name: getattr(settings, name) for name in ("text", "label", "valid", "test", "clean_labels", "seed")}
    return prepare(data, **options)


def keep_rows(folder: Folder, table: Table) -> str:
    """Rows that came from memory are kept in the run folder as they came, so that the run can be resumed."""
    path = folder.path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as handle:
        for row in zip(*table.columns.values(), strict=True):
            handle.write(json.dumps(dict(zip(table.columns, row, strict=True)), default=str) + "\n")
    return str(path.resolve())


def record_start(folder: Folder, resolved: Resolved, source: str, dataset: Dataset, parts: Assembled) -> None:
    """Write plan.yaml and run.json: all that a resume needs, and all that a reader asks. The second is written last:
    where it is, a run can be resumed."""
    settings = resolved.settings
    found = {"text": dataset.columns.text, "label": dataset.columns.label}
    taken = {name: value for name, value in found.items() if getattr(settings, name) is None}
    # A run may be taken up from another folder than it was started in.
    named = {name: getattr(settings, name) for name in ("model", "valid", "test")}
    paths = {name: str(Path(value).resolve()) for name, value in named.items() if Path(str(value)).exists()}
    origin = parts.built.origin
    folder.write_plan(parts.plan)
    folder.write_json(
        "run.json",
        {
            "format": FORMAT,
            "whet": importlib.metadata.version("whet"),
            "verb": resolved.verb,
            "settings": settings.model_copy(update={**taken, **paths}).model_dump(mode="json"),
            "sources": {**resolved.sources, **dict.fromkeys(taken, "data")},
            "data": {
                "source": source,
                "fingerprints": dataset.fingerprints,
                "rows": row_counts(dataset),
                "labels": list(dataset.labels),
                "notes": dataset.findings.notes,
                "dropped": dict(dataset.findings.dropped),
            },
            "model": {
                "reference": parts.source.reference,
                "sha256": parts.source.sha256,
                "licence": parts.source.licence,
                "head": parts.built.head.model_dump(mode="json"),
                "max_length": parts.max_length,
                "weights_loaded": origin.loaded,
                "weights_new": list(origin.new),
                "weights_left_over": list(origin.left_over),
            },
            "machine": here(settings),
        },
    )
    folder.event("started", process=os.getpid())


def here(settings: Settings) -> dict[str, Any]:
    """What the bits of a run depend on beside its inputs."""
    place = processes()
    names = ("torch", "transformers", "numpy")
    return {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": str(place.device.type),
        "precision": choose_precision(settings.precision, place.device),
        "threads": torch.get_num_threads(),
        "processes": place.num_processes,
        **{name: importlib.metadata.version(name) for name in names},
    }


def train(
    folder: Folder, settings: Settings, dataset: Dataset, parts: Assembled, clock: Stopwatch, watch: Watch
) -> Folder:
    """Tokenise, run the plan, score the test rows once, save."""
    with clock.stage("tokenise"):
        rows = {name: parts.part(getattr(dataset, name)) for name in ("train", "valid", "test")}
    stores = {name: part.store for name, part in rows.items()}
    use_attention_for(parts.built.model, max(int(store.lengths.max(initial=0)) for store in stores.values()))
    place = processes()
    precision = choose_precision(settings.precision, place.device)
    watch({"ready": facts_of(parts.plan, parts, dataset, settings), "truncated": truncated(stores)})
    job = Job(
        built=parts.built,
        anatomy=parts.anatomy,
        plan=parts.plan,
        task=parts.task,
        train=rows["train"],
        valid=rows["valid"],
        settings=settings,
        precision=precision,
        folder=folder.path,
        cache=cache_folder(settings.cache),
        identity=identity(parts.source.sha256, here(settings) | parts.below_head()),
        fresh=lambda: parts.fresh(settings.seed),
        watch=watch,
    )
    with noted(folder):
        with clock.stage("train"):
            outcome = Loop(job).run()
        with clock.stage("test"):
            scored = score_test(parts, rows["test"], settings, precision)
        if place.is_main_process:
            with clock.stage("save"):
                finish(folder, dataset, parts, outcome, scored, stores, clock)
    place.wait_for_everyone()
    return folder


@contextmanager
def noted(folder: Folder) -> Iterator[None]:
    """Put down in events.jsonl why a run stopped. What the disk refused becomes an error that says how to go on."""
    try:
        yield
    except (Interrupted, TrainingError, OSError, SafetensorError) as error:
        if processes().is_main_process:
            with suppress(OSError):
                folder.event("stopped", why=str(error))
        if isinstance(error, OSError | SafetensorError):
            reason = getattr(error, "strerror", None) or error
            cure = f"see that there is room on its disk, then go on with it: whet resume {folder.path}"
            raise RunError(f"the run in {folder.path} stopped: {reason}; {cure}") from error
        if isinstance(error, Interrupted):
            raise Interrupted(f"{error}; go on with it: whet resume {folder.path}") from error
        raise


def facts_of(plan: Plan, parts: Assembled, dataset: Dataset, settings: Settings) -> tuple[PhaseFacts, ...]:
    return explain(plan, parts.anatomy, len(dataset.train), settings.batch_size)


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


def finish(
    folder: Folder,
    dataset: Dataset,
    parts: Assembled,
    outcome: Outcome,
    scored: dict[str, Any],
    stores: Mapping[str, TokenStore],
    clock: Stopwatch,
) -> None:
    """Write the model, the predictions and, last, metrics.json; then the checkpoints have done their work."""
    temporary, final = folder.path / ".model", folder.path / "model"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(final, ignore_errors=True)
    temporary.mkdir()
    note = note_for(parts.built.head, parts.task.labels, parts.source, parts.max_length)
    save(parts.built, parts.source, parts.tokenizer, parts.task.labels, temporary, note)
    temporary.rename(final)
    details: dict[str, Any] = {}
    if "outputs" in scored:
        test = dataset.test
        details = parts.task.details(scored["outputs"], parts.task.targets(test))
        write_predictions(folder.path / "predictions.csv", dataset, parts, scored["outputs"])
    kept, position = outcome.kept, outcome.position
    phase = parts.plan.phases[kept.phase].name
    moved = frozenset().union(*(one.train.on(parts.anatomy) for one in parts.plan.phases))
    metrics = {
        "out": str(folder.path),
        "test": scored["scores"],
        "valid": kept.scores,
        "kept": {"step": kept.step, "of": position.done, "phase": phase, "reason": f"best validation {metric(folder)}"},
        "ended": position.ended[-1],
        "overfitting_since": overfitting(position.history),
        "moved": sum(p.size for p in parts.anatomy.parameters if p.name in moved),
        "rows": row_counts(dataset),
        "dropped": dict(dataset.findings.dropped),
        "truncated": truncated(stores),
        "seconds": clock.total(),
        "peak_memory_mb": round(outcome.peak_memory_mb, 1),
        "captures": outcome.captures,
        "precision": scored.get("precision"),
        "plan": parts.plan.model_dump(mode="json"),
        **details,
    }
    folder.write_json("metrics.json", metrics)
    folder.event("finished")
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)


def metric(folder: Folder) -> str:
    return str(folder.read_json("run.json")["settings"]["metric"])


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
