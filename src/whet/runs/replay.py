"""The rows that a plan replays: read, checked, held apart from the rows that are scored, and given a head."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.config import Settings
from whet.data.check import Findings, Rows, Wishes
from whet.data.read import read
from whet.data.split import Dataset
from whet.data.store import Part
from whet.engine.job import Beside
from whet.errors import DataError
from whet.models.load import Built
from whet.models.others import Other
from whet.plan.replay import Replay
from whet.plan.values import Plan
from whet.tasks.task import Task


@dataclass(frozen=True)
class Pool:
    """Replayed rows: where they came from, their task, and the number of their head among the further ones; None where
    they share the run's own."""

    key: tuple[str, str, int]
    rows: Rows
    task: Task
    head: int | None
    notes: tuple[str, ...]

    def facts(self, others: Sequence[Other]) -> dict[str, Any]:
        """What run.json keeps of it."""
        head = "the task's own"
        if self.head is not None:
            head = "one of its own, as it came with the model" if others[self.head].came else "a new one of its own"
        kept = {"source": self.key[0], "rows": len(self.rows), "labels": list(self.task.labels), "head": head}
        return {**kept, "fingerprint": self.rows.fingerprint, "notes": list(self.notes)}


def located(plan: Plan) -> Plan:
    """The plan with whole paths of the files that it replays: a run may be taken up from another folder."""

    def whole(replay: Replay) -> Replay:
        path = Path(replay.source)
        return replay.model_copy(update={"source": str(path.resolve())}) if path.exists() else replay

    phases = [phase.model_copy(update={"replay": tuple(map(whole, phase.replay))}) for phase in plan.phases]
    return plan.model_copy(update={"phases": tuple(phases)})


def pools(plan: Plan, dataset: Dataset, task: Task, settings: Settings) -> tuple[Pool, ...]:
    """The pools of rows that the plan's phases draw from, each read once."""
    keys = dict.fromkeys(replay.pool for phase in plan.phases for replay in phase.replay)
    found: list[Pool] = []
    for key in keys:
        rows, notes = rows_of(key, dataset, settings)
        labels = task.names(rows, dataset.columns)
        if task.covers(labels):
            found.append(Pool(key, rows, task, None, notes))
            continue
        if len(labels) < 2:
            raise DataError(
                f"{rows.name}: every row to be replayed has the label {labels[0]!r}; two or more are needed"
            )
        own = task.of(rows, labels, settings)
        number = sum(pool.head is not None for pool in found)
        found.append(Pool(key, rows, own, number, notes))
    return tuple(found)


def own_labels(found: Sequence[Pool]) -> list[tuple[str, ...]]:
    """The labels of each pool that needs a head of its own."""
    return [pool.task.labels for pool in found if pool.head is not None]


def rows_of(key: tuple[str, str, int], dataset: Dataset, settings: Settings) -> tuple[Rows, tuple[str, ...]]:
    """The rows of a pool, and what was noticed in them. Those whose text is also scored are left out and counted."""
    source, keep, most = key
    table, findings = read(source), Findings()
    columns, _ = dataset.reading.columns(table, Wishes.there(dataset.columns, table))
    rows = dataset.reading.check(table, columns, findings, clean_labels=settings.clean_labels)
    scored = {key for part in (dataset.valid, dataset.test) for key in part.keys}
    free = [position for position, key in enumerate(rows.keys) if key not in scored]
    if len(free) < len(rows):
        findings.dropped["a text that is also scored"] += len(rows) - len(free)
    if not free:
        raise DataError(f"{rows.name}: each of its texts is also scored, so none can be replayed")
    if keep == "reservoir" and most < len(free):
        free = sorted(random.Random(f"whet replay {settings.seed}").sample(free, most))
    dropped = [f"{count} rows left out: {reason}" for reason, count in findings.dropped.items()]
    notes = [f"{Path(source).name}, to be replayed: {note}" for note in (*findings.notes, *dropped)]
    return rows.take(free), tuple(notes)


def beside(
    found: Sequence[Pool], built: Built, others: Sequence[Other], part: Callable[[Rows, Task], Part]
) -> tuple[Beside, ...]:
    """The pools as the engine takes them. `part` makes tokens and targets of rows for a task."""
    made = []
    for pool in found:
        other = None if pool.head is None else others[pool.head]
        model, names = (built.model, frozenset[str]()) if other is None else (other.model, other.names)
        made.append(Beside(pool.key, part(pool.rows, pool.task), pool.task, model, names))
    return tuple(made)
