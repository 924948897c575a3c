"""A length in minutes is the whole run's: it is shared out over the phases by what each is expected to cost."""

from __future__ import annotations

from whet.plan.anatomy import Anatomy
from whet.plan.explain import lowest_moving
from whet.plan.values import Length, Phase, Plan


def share_minutes(plan: Plan, anatomy: Anatomy) -> Plan:
    """The plan with each phase in minutes given its share. Phases in epochs or steps stay as they are."""
    timed = [phase for phase in plan.phases if phase.length.unit == "min"]
    if len(timed) < 2:
        return plan
    costs = {phase.name: cost(phase, anatomy) for phase in timed}
    whole = sum(costs.values())

    def shared(phase: Phase) -> Phase:
        if phase.length.unit != "min":
            return phase
        minutes = round(phase.length.amount * costs[phase.name] / whole, 3)
        return phase.model_copy(update={"length": Length(amount=max(minutes, 0.001), unit="min")})

    return plan.model_copy(update={"phases": tuple(shared(phase) for phase in plan.phases)})


def cost(phase: Phase, anatomy: Anatomy) -> float:
    """What a step costs, in blocks passed: up and down through every block from the lowest that moves, and the
    gradient of the weights where they move. The head counts as a twentieth of a block."""
    moving = phase.train.on(anatomy)
    names = [group.name for group in anatomy.groups]
    above = anatomy.groups[names.index(lowest_moving(anatomy, moving)) :]
    passed = sum(2.0 if group.kind == "block" else 0.05 for group in above)
    return passed + sum(group.kind == "block" and any(p.name in moving for p in group.parameters) for group in above)
