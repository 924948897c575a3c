"""How a plan goes: what each phase has before it, computes once, moves and keeps. Pure; the engine does the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from whet.plan.anatomy import Anatomy, Group
from whet.plan.explain import boundaries, lowest_moving
from whet.plan.price import Epoch, Work
from whet.plan.pulls import ToFeatures, ToWeights
from whet.plan.values import SGD, OneOptimizer, Phase, Plan

FP32 = 4


@dataclass(frozen=True)
class Stretch:
    """One phase on its way.

    `epoch` is one of its own. `cut` is the group below which its steps compute nothing, if there is one; `computed`
    are the groups whose states a pass over the rows makes when it begins, `kept` those whose states are at hand in it.
    `above` are the groups that the gradient passes, `below` those that are computed in every step without one.
    `numbers` of its parameters train, for which the optimizer holds `optimizer` bytes. `before` has moved in earlier
    phases, and `optimizer_before` are the bytes of the last one's optimizer, which stay until this phase ends. `pulled`
    of the numbers are drawn towards their pretrained values; `held` are the bytes that the plan's pulls keep of the
    pretrained model in all phases.
    """

    phase: Phase
    epoch: Epoch
    moving: frozenset[str]
    before: frozenset[str]
    cut: str | None
    computed: frozenset[str]
    kept: frozenset[str]
    above: tuple[Group, ...]
    below: tuple[Group, ...]
    padded: bool
    steps: int | None
    numbers: float
    optimizer: float
    optimizer_before: float
    pulled: float
    held: float


def course(plan: Plan, anatomy: Anatomy, work: Work) -> list[Stretch]:
    """The phases of a plan in their order. `steps` is None for a phase in minutes."""
    names = [group.name for group in anatomy.groups]
    before, kept, optimizer_before = frozenset[str](), frozenset[str](), 0.0
    found, held = [], held_by(plan, anatomy, work)
    for number, phase in enumerate(plan.phases):
        moving = phase.train.on(anatomy)
        lowest = lowest_moving(anatomy, moving)
        needed = boundaries(plan, anatomy, number, before)
        cut = lowest if lowest in needed and lowest in work.states else None
        computed, kept = at_hand(cut, needed, kept & needed.keys(), work)
        numbers = numbers_of(moving, anatomy, work)
        optimizer = FP32 * states_of(phase.optimizer) * numbers
        found.append(
            Stretch(
                phase=phase,
                epoch=work.epochs[number],
                moving=moving,
                before=before,
                cut=cut,
                computed=computed,
                kept=kept,
                above=anatomy.groups[names.index(lowest) :],
                below=() if cut else anatomy.groups[: names.index(lowest)],
                padded=cut is None or work.states[cut].padded,
                steps=None if phase.length.unit == "min" else phase.length.steps(work.epochs[number].steps),
                numbers=numbers,
                optimizer=optimizer,
                optimizer_before=optimizer_before,
                pulled=numbers_of(pretrained(moving, anatomy), anatomy, work) if pulls(phase, ToWeights) else 0.0,
                held=held,
            )
        )
        before, optimizer_before = before | moving, optimizer
    return found


def pulls(phase: Phase, kind: type) -> bool:
    return any(isinstance(pull, kind) for pull in phase.pulls)


def pretrained(moving: frozenset[str], anatomy: Anatomy) -> frozenset[str]:
    """Those of the parameters that came with the model."""
    return moving - set(anatomy.added) - {parameter.name for parameter in anatomy.head.parameters}


def held_by(plan: Plan, anatomy: Anatomy, work: Work) -> float:
    """Bytes that pulls keep: the pretrained weights of all that moves, and the features of the training rows."""
    weights, features = (any(pulls(phase, kind) for phase in plan.phases) for kind in (ToWeights, ToFeatures))
    moving = frozenset[str]().union(*(phase.train.on(anatomy) for phase in plan.phases))
    found = FP32 * numbers_of(pretrained(moving, anatomy), anatomy, work) if weights else 0.0
    return found + (FP32 * work.train_rows * (anatomy.hidden_size or 0) if features else 0.0)


def at_hand(
    cut: str | None, needed: Mapping[str, bool], kept: frozenset[str], work: Work
) -> tuple[frozenset[str], frozenset[str]]:
    """The groups whose states have to be computed now, and those whose states are at hand then."""
    if cut is None or cut in kept:
        return frozenset(), kept
    wanted = frozenset(name for name in needed if name in work.states) - kept
    cached = frozenset(name for name in wanted if needed[name] and work.states[name].cached)
    computed = frozenset[str]() if cut in cached else wanted - cached
    return computed, kept | cached | computed


def weights_of(group: Group, anatomy: Anatomy) -> dict[str, int]:
    """The sizes of a group's pretrained weights, without biases, norms, and what was added to it."""
    return {p.name: p.size for p in group.parameters if p.kind == "weight" and p.name not in anatomy.added}


def numbers_of(names: Iterable[str], anatomy: Anatomy, work: Work) -> float:
    """How many numbers of these parameters train: of a token table those in use."""
    sizes = {parameter.name: parameter.size for parameter in anatomy.parameters} | dict(work.narrowed)
    return sum(sizes[name] for name in names)


def bytes_at(group: str, work: Work) -> float:
    """Bytes of the states that arrive at a group, for all training and validation rows."""
    state = work.states[group]
    return state.size * (work.tokens if state.padded else work.rows)


def states_of(optimizer: OneOptimizer) -> int:
    """How many numbers an optimizer keeps for each that moves."""
    if isinstance(optimizer, SGD):
        return int(optimizer.momentum > 0)
    return {"adamw": 2, "adam": 2, "adagrad": 1}[optimizer.kind]
