"""What simple methods and the pretrained model reach on the same rows, found before anything moves.

Kept in the run folder while it trains, so that a resumed run is held against the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from whet.config import Settings
from whet.data.check import Rows
from whet.data.split import Dataset
from whet.data.store import Part, TokenStore
from whet.engine.capture import States
from whet.engine.loop import Loop
from whet.evaluate.baselines import Absent, Baseline, Parts
from whet.evaluate.budget import Budget, stratified_order
from whet.models.adapters import Prompted
from whet.plan.explain import lowest_moving
from whet.runs.assemble import Assembled
from whet.tasks.material import Features, Found, Material
from whet.tasks.task import Task

FILE = "baselines.safetensors"
SECONDS, SHARE = 10.0, 0.1
"""Baselines may take so long, or this share of what the run is expected to take, whichever is more."""
PASS_SHARE = 0.7
"""Of that, at most so much goes into the pass that makes frozen features."""


def baselines(
    folder: Path, loop: Loop, dataset: Dataset, parts: Assembled, rows: dict[str, Part], settings: Settings
) -> Found:
    """Those that the run folder holds, else made now and kept there."""
    path = folder / FILE
    if not path.exists():
        keep(path, made(loop, dataset, parts, rows, settings))
    return kept(path)


def made(loop: Loop, dataset: Dataset, parts: Assembled, rows: dict[str, Part], settings: Settings) -> Found:
    import_module("sklearn.feature_extraction.text")  # slow, and not to be taken for what a fit costs
    import_module("sklearn.linear_model")
    task, each = parts.task, Parts(dataset.train, dataset.valid, dataset.test)
    material = Material(
        rows=each,
        parts=Parts(rows["train"], rows["valid"], rows["test"]),
        truth=Parts(task.truth(each.train), task.truth(each.valid), task.truth(each.test)),
        score=task.better,
        features=features_of(loop, dataset, parts, rows, settings),
        settings=settings,
    )
    return task.baselines(material)


def features_of(loop: Loop, dataset: Dataset, parts: Assembled, rows: dict[str, Part], settings: Settings) -> Features:
    """Frozen states for the baselines, of all rows or of as many training rows as the budget allows."""
    begun = time.monotonic()
    if isinstance(parts.built.model, Prompted):
        return Features(None, Budget(SECONDS), why="before every text stand virtual tokens, drawn at random")
    stores = {name: seen(parts, getattr(dataset, name), part) for name, part in rows.items()}
    total = len(dataset.train)
    valid = states_of(loop, stores["valid"])
    per_row = (time.monotonic() - begun) / len(dataset.valid)
    own = stores["train"][0] is rows["train"].store
    free = own and cut_anyway(parts, settings)
    if free:
        states_of(loop, stores["train"])  # the plan needs these: they are on no account of the baselines
        begun = time.monotonic()
    allowed = max(SECONDS, SHARE * expected_seconds(parts, total, settings, per_row))
    budget = Budget(allowed - (time.monotonic() - begun))
    if valid is None:
        return Features(None, budget, why="the model cannot be cut before its head")
    fit = total if free else int(PASS_SHARE * budget.left() / max(per_row, 1e-9)) - len(dataset.test)
    if fit < 2 * parts.task.outputs:
        return Features(None, budget, why="a pass over the rows takes longer than baselines may")
    chosen, taken = None, stores["train"]
    if fit < total and all(len(store) == total for store in taken):
        chosen = np.sort(stratified_order(strata_of(dataset), settings.seed)[:fit])
        taken = [store.take(chosen) for store in taken]
    train, test = states_of(loop, taken), states_of(loop, stores["test"])
    assert train is not None
    assert test is not None
    cuts = () if chosen is None else (f"features of {fit:,} of {total:,} training rows (seed {settings.seed})",)
    return Features(Parts(train, valid, test), budget, chosen, cuts, time.monotonic() - begun)


def seen(parts: Assembled, rows: Rows, part: Part) -> list[TokenStore]:
    """The rows as the baselines' views show them: the tokens that are there already, where they are the model's own."""
    return [part.store if view is rows else parts.tokens(view) for view in parts.task.views(rows)]


def states_of(loop: Loop, stores: Sequence[TokenStore]) -> tuple[States, ...] | None:
    found = [loop.below.before_head(store) for store in stores]
    return None if any(states is None for states in found) else tuple(one for one in found if one)


def strata_of(dataset: Dataset) -> np.ndarray:
    """A number for each stratum of the training rows."""
    strata = [one if isinstance(one, str) else "\0".join(one) for one in dataset.reading.strata(dataset.train)]
    return np.unique(np.array(strata), return_inverse=True)[1]


def cut_anyway(parts: Assembled, settings: Settings) -> bool:
    """Whether the plan's first phase computes states of all rows, so that features come out of the same pass."""
    lowest = lowest_moving(parts.anatomy, parts.plan.phases[0].train.on(parts.anatomy))
    return settings.cut and lowest != parts.anatomy.groups[0].name


def expected_seconds(parts: Assembled, rows: int, settings: Settings, per_row: float) -> float:
    """About how long the run takes: a step costs three passes of what lies above the cut, a pass `per_row` seconds."""
    if settings.minutes:
        return 60 * settings.minutes
    names, per_epoch, total = [g.name for g in parts.anatomy.groups], -(-rows // settings.batch_size), 0.0
    for phase in parts.plan.phases:
        lowest = names.index(lowest_moving(parts.anatomy, phase.train.on(parts.anatomy)))
        above = (len(names) - lowest) / len(names)
        steps = phase.length.steps(per_epoch) if phase.length.unit != "min" else per_epoch
        total += 3 * above * steps * settings.batch_size * per_row
    return total


def keep(path: Path, found: Found) -> None:
    tensors: dict[str, np.ndarray] = {}
    facts: list[dict[str, Any]] = []
    for one in found:
        if isinstance(one, Absent):
            facts.append({"name": one.name, "title": one.title, "reason": one.reason})
            continue
        lengths = {}
        for part, value in (("valid", one.valid), ("test", one.test)):
            if value.dtype == object:  # an array for each row
                lengths[part], value = [len(row) for row in value], np.concatenate(value)
            tensors[f"{one.name}|{part}"] = value
        own = {"name": one.name, "title": one.title, "settings": one.settings, "cuts": one.cuts, "lengths": lengths}
        facts.append({**own, "seconds": one.seconds})
    temporary = path.with_suffix(".tmp")
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(arrays, str(temporary), metadata={"found": json.dumps(facts)})
    temporary.replace(path)


def kept(path: Path) -> Found:
    with safe_open(str(path), "numpy") as file:
        found: Found = []
        for facts in json.loads(file.metadata()["found"]):
            if "reason" in facts:
                found.append(Absent(**facts))
                continue
            lengths = facts.pop("lengths")
            valid, test = (rows_of(file.get_tensor(f"{facts['name']}|{p}"), lengths.get(p)) for p in ("valid", "test"))
            found.append(Baseline(**{**facts, "cuts": tuple(facts["cuts"])}, valid=valid, test=test))
    return found


def rows_of(value: np.ndarray, lengths: list[int] | None) -> np.ndarray:
    """What was kept: an array, or where rows differ in length an array of one for each."""
    if lengths is None:
        return value
    made, ends = np.empty(len(lengths), dtype=object), np.cumsum(lengths)
    for number, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        made[number] = value[end - length : end]
    return made


def on_validation(found: Found, task: Task, truth: np.ndarray) -> dict[str, float | str]:
    """The score of each baseline on the validation rows, or why there is none, by title."""
    return {
        one.title: one.reason if isinstance(one, Absent) else task.measure(truth, one.valid)[task.metric]
        for one in found
    }
