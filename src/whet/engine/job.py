"""What a run needs, and how its training went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whet.config import Settings
from whet.data.store import Part
from whet.engine.position import Best, Position
from whet.models.load import Built
from whet.plan.anatomy import Anatomy
from whet.plan.values import Plan
from whet.tasks.task import Task


@dataclass(frozen=True)
class Beside:
    """A pool of rows that the plan replays: the part, the task that scores it, the model that it goes through (the
    run's own, or its body with another head), and the names of that head's parameters in the run's model."""

    pool: tuple[str, str, int]
    part: Part
    task: Task
    model: nn.Module
    head: frozenset[str]


@dataclass(frozen=True)
class Job:
    """All that a run needs.

    `fresh` gives the weights that the model started with, by name; `cache` is where computed states are kept for other
    runs and `identity` what those depend on; `watch` is told each line of progress.jsonl.
    """

    built: Built
    anatomy: Anatomy
    plan: Plan
    task: Task
    train: Part
    valid: Part
    settings: Settings
    precision: str
    folder: Path
    cache: Path | None
    identity: str
    fresh: Callable[[], dict[str, Tensor]]
    watch: Callable[[dict[str, Any]], None]
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How training went; the model then holds the weights kept. `earlier` are seconds of the sessions before this."""

    kept: Best
    kept_as: str
    position: Position
    earlier: float
    captures: list[dict[str, Any]]
    peak_memory_mb: float
