"""What simple methods and the pretrained model reach on the same rows, found before anything moves.

Kept in the run folder while it trains, so that a resumed run is held against the same.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from whet.config import Settings
from whet.data.split import Dataset
from whet.engine.gradient import Part
from whet.engine.loop import Loop
from whet.evaluate.baselines import TITLES, Absent, Baseline, Parts, frozen, majority, tfidf
from whet.evaluate.budget import Budget, Problem, stratified_order
from whet.evaluate.metrics import better, classification
from whet.models.adapters import Prompted
from whet.plan.explain import lowest_moving
from whet.runs.assemble import Assembled

FILE = "baselines.safetensors"
SECONDS, SHARE = 10.0, 0.1
"""Baselines may take so long, or this share of what the run is expected to take, whichever is more."""
PASS_SHARE = 0.7
"""Of that, at most so much goes into the pass that makes frozen features."""

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
    import_module("sklearn.feature_extraction.text")  # slow, and not to be taken for what a fit costs
    import_module("sklearn.linear_model")
    problem = Problem(
        train=rows["train"].targets,
        valid=rows["valid"].targets,
        classes=parts.task.outputs,
        score=lambda probabilities, targets: better(targets, probabilities, settings.metric),
        class_weight=settings.class_weight,
        seed=settings.seed,
    )
    texts = Parts(dataset.train.texts, dataset.valid.texts, dataset.test.texts)
    features = Features.of(loop, parts, rows, settings)
    found: Found = [majority(problem, len(texts.test)), tfidf(problem, texts, features.budget.share(0.4))]
    if features.vectors is None:
        return [*found, Absent("frozen", TITLES["frozen"], features.why)]
    if features.rows is not None:
        problem = replace(problem, train=problem.train[features.rows])
    last = frozen(problem, features.vectors, features.budget)
    if isinstance(last, Baseline):
        last = replace(last, cuts=(*features.cuts, *last.cuts), seconds=last.seconds + features.seconds)
    return [*found, last]


@dataclass(frozen=True)
class Features:
    """Frozen features of all rows, or of the training rows `rows` where a pass over all is too dear; None with the
    reason `why` where there are none. `budget` is what they left, `seconds` what they took."""

    vectors: Parts[np.ndarray] | None
    budget: Budget
    rows: np.ndarray | None = None
    cuts: tuple[str, ...] = ()
    seconds: float = 0.0
    why: str = ""

    @staticmethod
    def of(loop: Loop, parts: Assembled, rows: dict[str, Part], settings: Settings) -> Features:
        begun = time.monotonic()
        if isinstance(parts.built.model, Prompted):
            return Features(None, Budget(SECONDS), why="before every text stand virtual tokens, drawn at random")
        stores, total = {name: part.store for name, part in rows.items()}, len(rows["train"].targets)
        valid = loop.below.before_head(stores["valid"])
        per_row = (time.monotonic() - begun) / len(stores["valid"])
        free = cut_anyway(parts, settings)
        if free:
            loop.below.before_head(stores["train"])  # the plan needs these: they are on no account of the baselines
            begun = time.monotonic()
        allowed = max(SECONDS, SHARE * expected_seconds(parts, total, settings, per_row))
        budget = Budget(allowed - (time.monotonic() - begun))
        if valid is None:
            return Features(None, budget, why="the model cannot be cut before its head")
        fit = total if free else int(PASS_SHARE * budget.left() / max(per_row, 1e-9)) - len(stores["test"])
        if fit < 2 * parts.task.outputs:
            return Features(None, budget, why="a pass over the rows takes longer than baselines may")
        chosen = None if fit >= total else np.sort(stratified_order(rows["train"].targets, settings.seed)[:fit])
        train = loop.below.before_head(stores["train"] if chosen is None else stores["train"].take(chosen))
        test = loop.below.before_head(stores["test"])
        assert train is not None
        assert test is not None
        made = Parts(train.vectors(), valid.vectors(), test.vectors())
        cuts = () if chosen is None else (f"features of {fit:,} of {total:,} training rows (seed {settings.seed})",)
        return Features(made, budget, chosen, cuts, time.monotonic() - begun)


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
