"""Every task, and which of them some rows are of."""

from __future__ import annotations

from whet.config import Resolved, Settings
from whet.data.check import Wishes
from whet.data.read import Table
from whet.errors import SettingsError
from whet.tasks.classification import Classification
from whet.tasks.multi_label import MultiLabel
from whet.tasks.pairs import PairClassification, PairRegression
from whet.tasks.regression import Regression
from whet.tasks.tagging import Tagging
from whet.tasks.task import Task

KINDS: tuple[type[Task], ...] = (
    Classification,
    MultiLabel,
    PairClassification,
    PairRegression,
    Regression,
    Tagging,
)
TASKS = {kind.name: kind for kind in KINDS}
"""By name; where two are equally sure of some rows, the first."""

SPECIAL = {
    "text_b": "there is no second text",
    "class_weight": "there are no classes to weigh",
    "label_smoothing": "there are no labels to smooth",
    "clean_labels": "there are no labels to clean",
    "valid_tags": "there are no tags",
    "calibrate": "there are no probabilities of classes to calibrate",
}
"""Options that mean something to some tasks only, and what is said where they are given for another."""


def recognise(table: Table, settings: Settings) -> type[Task]:
    """The task asked for, else the one that the columns are surest of. Raises `SettingsError` for options that mean
    nothing to it."""
    wishes = Wishes(settings.text, settings.label, settings.text_b)
    if settings.task is not None:
        kind = TASKS[settings.task]
    else:
        kind = max(TASKS.values(), key=lambda one: one.likeness(table, wishes))
    defaults, taken = Settings(), kind.options
    wrong = [n for n in SPECIAL if n not in taken and getattr(settings, n) != getattr(defaults, n)]
    if wrong:
        said = "; ".join(f"{name} does nothing: {SPECIAL[name]}" for name in wrong)
        raise SettingsError(f"the task is {kind.name}, where {said}. Leave it out, or name another --task")
    kind.chosen_by(settings)
    return kind


def settled(resolved: Resolved, task: Task) -> Resolved:
    """The settings with the task and its metric in the place of what was left open."""
    found = {"task": task.name, "metric": task.metric}
    open_ = {name: value for name, value in found.items() if getattr(resolved.settings, name) is None}
    sources = {**resolved.sources, **dict.fromkeys(open_, "data")}
    return resolved.model_copy(update={"settings": resolved.settings.model_copy(update=open_), "sources": sources})
