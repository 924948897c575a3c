"""The path of a run, top to bottom: read, assemble, train, score the test rows once, save."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from whet.config import Resolved, Settings
from whet.data.read import read
from whet.data.split import Dataset
from whet.data.store import Part
from whet.engine.capture import cache_folder, identity
from whet.engine.job import Job
from whet.engine.loop import Loop
from whet.engine.precision import choose_precision, processes
from whet.errors import Interrupted, RunError, TrainingError
from whet.models.given import GivenModule
from whet.plan.explain import explain
from whet.plan.price import Price
from whet.plan.strategy import Strategy
from whet.report.tensorboard import Board
from whet.runs.assemble import Assembled, Watch, assemble, use_attention_for
from whet.runs.before import FILE, baselines, on_validation
from whet.runs.estimate import Estimator
from whet.runs.finish import (
    finish,
    keep_model,
    kept_task,
    merge,
    result,
    score_test,
    truncated,
    write_predictions,
)
from whet.runs.fitting import with_fitting
from whet.runs.folder import Folder
from whet.runs.record import here, record_start
from whet.runs.rows import first_line, keep_rows, read_rows
from whet.tasks.material import Found
from whet.tasks.registry import settled


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

    def total(self, earlier: float) -> dict[str, float]:
        """Each stage and the total; `earlier` are seconds of training before the run was resumed."""
        whole = time.monotonic() - self.begun + earlier
        return {**self.seconds, "train": round(self.seconds["train"] + earlier, 3), "total": round(whole, 3)}


def begin(resolved: Resolved, data: Any, watch: Watch, given: GivenModule | None = None) -> Folder:
    """A new run, from the rows to the result. The folder is removed again if anything fails before training."""
    clock = Stopwatch()
    name = Path(data).stem if isinstance(data, str | Path) else "run"
    folder = claim(resolved.settings.out, name)
    try:
        with clock.stage("read"):
            table = read(data)
            dataset = read_rows(resolved.settings, table)
        watch({"begins": first_line(resolved, data, dataset)})
        for note in dataset.findings.notes:
            watch({"note": note})
        with clock.stage("model"):
            parts = assemble(resolved, dataset, given=given)
        resolved = settled(resolved, parts.task)
        for note in (note for pool in parts.pools for note in pool.notes):
            watch({"note": note})
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


def go_on(path: str | Path, watch: Watch, given: GivenModule | None = None) -> Folder:
    """Finish an interrupted run as if it had never been. Raises `RunError` where rows or model have changed."""
    clock = Stopwatch()
    folder = Folder.open(path)
    if folder.finished:
        raise RunError(f"the run in {path} is finished already; use it: whet predict {path} FILE")
    asked = folder.read_json("run.json")
    if asked["model"]["handed_over"] and given is None:
        raise RunError(
            f"this run tunes a {asked['settings']['model']}, handed over in Python; hand it over again: "
            "whet.resume(run, model=module, tokenizer=tokenizer)"
        )
    begun_with = {name: asked["machine"][name] for name in ("threads", "precision")}
    settings = Settings.model_validate({**asked["settings"], **begun_with})
    plan = folder.read_plan()
    named = Strategy(str(settings.strategy), lambda *_: plan)
    resolved = Resolved(verb=asked["verb"], settings=settings, sources=asked["sources"], strategy=named)
    with clock.stage("read"):
        dataset = read_rows(settings, asked["data"]["source"])
    for part, fingerprint in dataset.fingerprints.items():
        if fingerprint != asked["data"]["fingerprints"][part]:
            raise RunError(f"the {part} rows have changed since this run was started; start a new one for them")
    with clock.stage("model"):
        parts = assemble(resolved, dataset, plan, given)
    for pool, was in zip(parts.pools, asked["data"]["replay"], strict=True):
        if pool.rows.fingerprint != was["fingerprint"]:
            raise RunError(f"the rows of {was['source']} have changed since this run was started; start a new one")
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


def train(
    folder: Folder, settings: Settings, dataset: Dataset, parts: Assembled, clock: Stopwatch, watch: Watch
) -> Folder:
    """Tokenise, run the plan, score the test rows once, save."""
    with clock.stage("tokenise"):
        rows = {name: parts.part(getattr(dataset, name), watch) for name in ("train", "valid", "test")}
    stores = {name: part.store for name, part in rows.items()}
    use_attention_for(parts.built.model, max(int(store.lengths.max(initial=0)) for store in stores.values()))
    place = processes()
    noticed = parts.task.noticed(rows)
    for note in noticed:
        watch({"note": note})
    ready = explain(parts.plan, parts.anatomy, len(stores["train"]), settings.batch_size)
    watch({"ready": ready, "truncated": truncated(stores), "scores": list(parts.task.metrics)})
    with noted(folder), shown(folder, settings, watch) as watch:
        loop = Loop(job_of(folder, settings, parts, rows, watch))
        price = None
        if place.is_main_process:  # the others need not know, and run.json may not be there yet for them
            with clock.stage("price"):
                price = priced(loop, parts, rows, folder.read_json("run.json")["verb"])
            watch({"price": price})
        known = None
        if settings.forgetting:
            from whet.runs.forgetting import known_before  # statistics are slow to import: not before they are needed

            with clock.stage("forgetting"):
                known = known_before(loop.job, parts, dataset)
        found: Found = []
        if settings.baselines and len(dataset.test) and place.is_main_process:
            with clock.stage("baselines"):
                found = baselines(folder.path, loop, dataset, parts, rows, settings)
            watch({"baselines": on_validation(found, parts.task, parts.task.truth(dataset.valid))})
        with clock.stage("train"):
            outcome = loop.run()
        with clock.stage("test"):
            merged = merge(parts, rows["valid"], settings)
            learnt = finish(parts, rows["valid"], settings)
            scored = score_test(parts, dataset.test, rows["test"], settings, loop.forward.precision, learnt)
        if place.is_main_process:
            from whet.runs.forgetting import forgotten
            from whet.runs.proof import proof

            with clock.stage("save"):
                keep_model(folder, parts)
                if scored.tested is not None:
                    write_predictions(folder.path / "predictions.csv", parts.task, scored.tested, found)
            with clock.stage("forgetting"):
                lost = forgotten(known, parts, dataset, settings, watch)
            asked = {**folder.read_json("run.json"), "captures": outcome.captures, "task": kept_task(parts.task)}
            asked["data"]["notes"] += noticed
            folder.write_json("run.json", asked)
            made = result(folder.path, dataset, parts, outcome, scored, merged, stores)
            made |= proof(dataset, parts.task, settings, outcome, scored.tested, found, lost)
            made |= {"estimate": price.model_dump(mode="json") if price else None}
            made |= {"forgetting": lost, "seconds": clock.total(outcome.earlier), "seeds": None}
            folder.write_json("metrics.json", made)
            close(folder)
    if place.is_main_process:
        report(folder)
    place.wait_for_everyone()
    return folder


def close(folder: Folder) -> None:
    """Note that a run is finished, and remove what only an unfinished one needs."""
    from whet.runs.forgetting import discard

    folder.event("finished")
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    (folder.path / FILE).unlink(missing_ok=True)
    discard(folder.path)


def job_of(folder: Folder, settings: Settings, parts: Assembled, rows: dict[str, Part], watch: Watch) -> Job:
    return Job(
        built=parts.built,
        anatomy=parts.anatomy,
        plan=parts.plan,
        task=parts.task,
        train=rows["train"],
        valid=rows["valid"],
        settings=settings,
        precision=choose_precision(settings.precision, processes().device),
        folder=folder.path,
        cache=cache_folder(settings.cache),
        identity=identity(parts.source.sha256, here(settings) | parts.below_head()),
        fresh=parts.fresh,
        watch=watch,
        beside=parts.beside(watch),
    )


def priced(loop: Loop, parts: Assembled, rows: dict[str, Part], verb: str) -> Price:
    """What the run will cost, and what would fit where it needs more memory than there is."""
    job = loop.job
    estimator = Estimator(parts, rows, job.settings, loop.forward, job.cache, job.identity, job.beside)
    return with_fitting(estimator.price(always=False), estimator, verb)


def report(folder: Folder) -> None:
    """Write report.html of a finished run. Raises `RunError` where the disk refuses it: the run itself is whole."""
    from whet.report.html import write_report  # slow to import: it draws

    try:
        write_report(folder.path)
    except OSError as error:
        cure = f"when there is room on the disk, write it with: whet report {folder.path}"
        raise RunError(f"the run is finished, but not its report: {error.strerror or error}; {cure}") from error


@contextmanager
def shown(folder: Folder, settings: Settings, watch: Watch) -> Iterator[Watch]:
    """What is told of progress: `watch`, and TensorBoard before it where that is asked for."""
    if not (settings.tensorboard and processes().is_main_process):
        yield watch
        return
    with closing(Board(folder.path / "tensorboard", watch)) as board:
        yield board


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
