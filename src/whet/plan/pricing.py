"""The price of a plan: its phases in their order, the test, and the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from whet.plan.anatomy import Anatomy
from whet.plan.course import FP32, Stretch, bytes_at, course, numbers_of
from whet.plan.edits import Adapter, Average, Merge
from whet.plan.memory import IN_MEMORY, memory_after, memory_of, size_of
from whet.plan.price import MEBI, Disk, Footprint, Machine, PhasePrice, Price, Rates, Work
from whet.plan.seconds import Clock
from whet.plan.values import Plan


class Measured(NamedTuple):
    """What was found on this machine for this model; `rates` are None where nothing was timed, `timed` says why or
    when."""

    machine: Machine
    footprint: Footprint
    rates: Rates | None
    timed: str


def price(plan: Plan, anatomy: Anatomy, work: Work, measured: Measured) -> Price:
    """The price of a plan on a model of this anatomy. A phase with patience is taken at its full length."""
    stretches = course(plan, anatomy, work)
    clock = Clock(anatomy, work, measured.rates) if measured.rates else None
    phases, steps, before = [], 0, round(clock.before(plan), 3) if clock else None
    for stretch in stretches:
        steps += stretch.steps or stretch.epoch.steps
        memory = memory_of(stretch, anatomy, work, measured.machine, measured.footprint, steps)
        seconds = clock.phase(stretch, last=stretch is stretches[-1]) if clock else None
        phases.append(PhasePrice(name=stretch.phase.name, seconds=seconds, memory=memory))
    after = None
    if plan.blends:
        memory = memory_after(plan, stretches[-1], anatomy, work, measured.machine, measured.footprint)
        after = PhasePrice(name="the result", seconds=clock.after(plan) if clock else None, memory=memory)
    test = round(clock.test(), 3) if clock else None
    every = (*phases, *([after] if after else []))
    training = sum(phase.seconds.total for phase in every if phase.seconds) + (before or 0.0)
    return Price(
        phases=tuple(phases),
        after=after,
        seconds=None if test is None else round(training + test, 3),
        before_seconds=before,
        test_seconds=test,
        timed=measured.timed,
        peak_mb=round(max(measured.machine.highest / MEBI, *(phase.memory.total for phase in every)), 1),
        held_mb=round(measured.machine.resident / MEBI, 1),
        free_mb=round(measured.machine.free / MEBI, 1),
        disk=disk(stretches, plan, anatomy, work, measured.machine),
    )


def disk(stretches: Sequence[Stretch], plan: Plan, anatomy: Anatomy, work: Work, machine: Machine) -> Disk:
    """The two latest checkpoints, with what moved and the optimizer's state, the weights of the best validations, and
    states: those for other runs, and those that exceed the memory."""
    adapted = any(isinstance(e, Adapter) for e in plan.edits) and not any(isinstance(e, Merge) for e in plan.finish)
    new = {*anatomy.added, *(parameter.name for parameter in anatomy.head.parameters)}
    whole = FP32 * numbers_of(new, anatomy, work) if adapted else size_of(anatomy, work)
    bests = 1 + max([1, *(edit.best for edit in plan.finish if isinstance(edit, Average))])
    checkpoints = 0.0
    for stretch in stretches:
        moved = FP32 * numbers_of(stretch.before | stretch.moving, anatomy, work)
        checkpoints = max(checkpoints, 2 * (moved + stretch.optimizer) + bests * moved)
    sizes = {name: bytes_at(name, work) for stretch in stretches for name in stretch.kept}
    spilt = max(0.0, sum(sizes.values()) - machine.free / IN_MEMORY)
    return Disk.of(model=whole / MEBI, checkpoints=checkpoints / MEBI, captures=(sum(sizes.values()) + spilt) / MEBI)
