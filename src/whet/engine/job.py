"""What a run needs, and how its training went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from whet.config import Settings
from whet.engine.gradient import Part
from whet.engine.position import Best, Position
from whet.models.load import Built
from whet.plan.anatomy import Anatomy
from whet.plan.values import Plan
from whet.tasks.task import Task


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


@dataclass(frozen=True)
class Outcome:
    """How training went; the model then holds the weights kept. `earlier` are seconds of the sessions before this."""

    kept: Best
    kept_as: str
    position: Position
    earlier: float
    captures: list[dict[str, Any]]
    peak_memory_mb: float
