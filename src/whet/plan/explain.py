"""What a plan will do, phase by phase, in numbers: pure arithmetic on the plan, the anatomy and the rows."""

from __future__ import annotations

import math
from typing import Any

from whet.plan.anatomy import Anatomy
from whet.plan.base import Value
from whet.plan.price import Price
from whet.plan.values import Length, Plan


class PhaseFacts(Value):
    """One phase as it will run. `steps` is None while a length in minutes is not yet measured; `beside` says in words
    what stands beside the task's own rows and loss."""

    name: str
    moves: int
    groups: dict[str, int]
    rates: dict[str, float]
    length: str
    steps: int | None
    frozen_below: str | None
    captured_mb: float | None = None
    beside: tuple[str, ...] = ()


class GroupFacts(Value):
    """One group of a model. `cut`: a trial showed that the model can be divided before it."""

    name: str
    parameters: int
    cut: bool


class Explained(Value):
    """What would run: the plan, its phases in numbers, every option and where it came from, the groups of the model,
    rows of each part, what was noticed in the data, and the price; None without data."""

    plan: Plan
    phases: tuple[PhaseFacts, ...]
    settings: dict[str, Any]
    sources: dict[str, str]
    groups: tuple[GroupFacts, ...]
    hidden_size: int | None
    rows: dict[str, int]
    notes: tuple[str, ...]
    picture: tuple[str, ...]
    price: Price | None = None


def explain(plan: Plan, anatomy: Anatomy, rows: int, batch_size: int) -> tuple[PhaseFacts, ...]:
    """The facts of each phase: what moves (parameters, per group), at which peak rate, for how many steps.

    `frozen_below` names the lowest group that moves when everything below it stands still, so that what
    lies below is computed once.
    """
    facts = []
    for phase in plan.phases:
        per_epoch = math.ceil(rows / phase.rows_per_step(batch_size)[0])
        moving = phase.train.on(anatomy)
        groups = {g.name: sum(p.size for p in g.parameters if p.name in moving) for g in anatomy.groups}
        groups = {name: size for name, size in groups.items() if size}
        lowest = lowest_moving(anatomy, moving)
        length: Length = phase.length
        facts.append(
            PhaseFacts(
                name=phase.name,
                moves=sum(groups.values()),
                groups=groups,
                rates={name: phase.rate.base * phase.rate.factors.get(name, 1.0) for name in groups},
                length=str(length),
                steps=None if length.unit == "min" else length.steps(per_epoch),
                frozen_below=None if lowest == anatomy.groups[0].name else lowest,
                beside=(*map(str, phase.pulls), *map(str, phase.replay)),
            )
        )
    return tuple(facts)


def lowest_moving(anatomy: Anatomy, moving: frozenset[str]) -> str:
    """The name of the lowest group with a moving parameter."""
    return next(g.name for g in anatomy.groups if any(p.name in moving for p in g.parameters))


def boundaries(plan: Plan, anatomy: Anatomy, phase: int, moved: frozenset[str]) -> dict[str, bool]:
    """The groups at which phase number `phase` and later ones can be cut, the next needed first, each with whether
    what lies below it is as pretrained when its phase begins. `moved` are the parameters that moved before.

    A later phase's group is among them where nothing below it moves until then: computed now, it will still hold.
    """
    found: dict[str, bool] = {}
    names = [group.name for group in anatomy.groups]
    since: frozenset[str] = frozenset()
    for later in plan.phases[phase:]:
        moving = later.train.on(anatomy)
        lowest = lowest_moving(anatomy, moving)
        below = {p.name for group in anatomy.groups[: names.index(lowest)] for p in group.parameters}
        if below and not below & since:
            found.setdefault(lowest, not below & moved)
        since |= moving
    return found


MOVES, PASSED, ONCE = "\u2588", "\u2591", " "


def picture(plan: Plan, anatomy: Anatomy, per_epoch: int = 100, width: int = 48) -> list[str]:
    """The plan as lines of text: groups from the output down to the input, time to the right. Dark moves; light stands
    still but is computed in every step; empty is computed once. Lengths in minutes count as one epoch."""
    steps = [p.length.steps(per_epoch) if p.length.unit != "min" else per_epoch for p in plan.phases]
    columns = [max(1, round(width * one / sum(steps))) for one in steps]
    names = [group.name for group in anatomy.groups]
    lines = []
    for number, group in reversed(list(enumerate(anatomy.groups))):
        cells = []
        for phase, size in zip(plan.phases, columns, strict=True):
            moving = phase.train.on(anatomy)
            lowest = names.index(lowest_moving(anatomy, moving))
            moves = any(parameter.name in moving for parameter in group.parameters)
            cells.append((MOVES if moves else PASSED if number > lowest else ONCE) * size)
        lines.append(f"{group.name:>10} |{'|'.join(cells)}|")
    return lines
