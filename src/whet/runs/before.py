"""What simple methods and the pretrained model reach on the same rows, found before anything moves.

Kept in the run folder while it trains, so that a resumed run is held against the same.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from whet.config import Settings
from whet.data.split import Dataset
from whet.engine.capture import States
from whet.engine.gradient import Part
from whet.engine.loop import Loop
from whet.evaluate.baselines import TITLES, Absent, Baseline, Parts, frozen, majority, tfidf
from whet.evaluate.budget import Budget, Problem, stratified_order
from whet.evaluate.metrics import better, classification
from whet.plan.explain import lowest_moving
from whet.runs.assemble import Assembled

FILE = "baselines.safetensors"
SECONDS, SHARE = 10.0, 0.1
"""Baselines may take so long, or this share of what the run is expected to take, whichever is more."""

Found = list[Baseline | Absent]


def baselines(
    folder: Path, loop: Loop, dataset: Dataset, parts: Assembled, rows: dict[str, Part], settings: Settings
) -> Found:
    """Those that the run folder holds, else made now and kept there."""
    path = folder / FILE
    if not path.exists():
        keep(path, made(loop, dataset, parts, rows, settings))
    return kept(path)


def made(loop: Loop, dataset: Dataset, parts: Assembled, rows: dict[str, Part], settings: Settings) -> Found:
    begun = time.monotonic()
    problem = Problem(
        train=rows["train"].targets,
        valid=rows["valid"].targets,
        classes=parts.task.outputs,
        score=lambda probabilities, targets: better(targets, probabilities, settings.metric),
        class_weight=settings.class_weight,
        seed=settings.seed,
    )
    texts = Parts(dataset.train.texts, dataset.valid.texts, dataset.test.texts)
    states = loop.before_head(rows["valid"].store)
    per_row = (time.monotonic() - begun) / len(rows["valid"].store)
    budget = Budget(max(SECONDS, SHARE * expected_seconds(parts, len(texts.train), settings, per_row)))
    found: Found = [majority(problem, len(texts.test)), tfidf(problem, texts, budget.share(0.3))]
    if states is None:
        return [*found, Absent("frozen", TITLES["frozen"], "the model cannot be cut before its head")]
    chosen = rows_that_fit(parts, problem.train, settings, per_row, budget.left() / 2)
    return [*found, probe(problem, loop, rows, states, chosen, budget, settings.seed)]


def probe(
    problem: Problem,
    loop: Loop,
    rows: dict[str, Part],
    valid: States,
    chosen: np.ndarray | None,
    budget: Budget,
    seed: int,
) -> Baseline | Absent:
    """The baseline on frozen features, of all training rows or of those chosen, whose number its cuts then name."""
    begun, store = time.monotonic(), rows["train"].store
    train = loop.before_head(store if chosen is None else store.take(chosen))
    test = loop.before_head(rows["test"].store)
    assert train is not None
    assert test is not None
    cuts: tuple[str, ...] = ()
    if chosen is not None:
        problem = replace(problem, train=problem.train[chosen])
        cuts = (f"features of {len(chosen):,} of {len(store):,} training rows (seed {seed})",)
    found = frozen(problem, Parts(train.vectors(), valid.vectors(), test.vectors()), budget)
    if isinstance(found, Absent):
        return found
    return replace(found, cuts=(*cuts, *found.cuts), seconds=time.monotonic() - begun)


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


def rows_that_fit(
    parts: Assembled, targets: np.ndarray, settings: Settings, per_row: float, seconds: float
) -> np.ndarray | None:
    """Training rows, drawn with the seed from every label, whose pass fits into `seconds`. None for all: they fit, or
    the plan's first phase computes them anyway."""
    names = [group.name for group in parts.anatomy.groups]
    frozen_below = lowest_moving(parts.anatomy, parts.plan.phases[0].train.on(parts.anatomy)) != names[0]
    fit = int(seconds / max(per_row, 1e-9))
    if fit >= len(targets) or (frozen_below and settings.cut):
        return None
    return np.sort(stratified_order(targets, settings.seed)[: max(fit, 2 * parts.task.outputs)])


def keep(path: Path, found: Found) -> None:
    tensors: dict[str, np.ndarray] = {}
    facts: list[dict[str, Any]] = []
    for one in found:
        if isinstance(one, Absent):
            facts.append({"name": one.name, "title": one.title, "reason": one.reason})
            continue
        tensors |= {f"{one.name}|valid": one.valid, f"{one.name}|test": one.test}
        own = {"name": one.name, "title": one.title, "settings": one.settings, "cuts": one.cuts}
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
            valid, test = (file.get_tensor(f"{facts['name']}|{part}") for part in ("valid", "test"))
            found.append(Baseline(**{**facts, "cuts": tuple(facts["cuts"])}, valid=valid, test=test))
    return found


def on_validation(found: Found, truth: np.ndarray, metric: str) -> dict[str, float | str]:
    """The score of each baseline on the validation rows, or why there is none, by title."""
    return {
        one.title: one.reason if isinstance(one, Absent) else classification(truth, one.valid)[metric] for one in found
    }
