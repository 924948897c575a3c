"""A strategy that nobody named, by a person who read only the docs: under thirty lines, and no other change."""

from __future__ import annotations

from whet.plan.anatomy import Anatomy
from whet.plan.select import everything, groups, head
from whet.plan.strategies import tuning_phase
from whet.plan.strategy import STRATEGIES, parse_strategy, strategy
from whet.plan.values import Defaults, Phase, Plan


def test_bottom_up_two_blocks_at_a_time_with_a_fast_head_and_everything_last(anatomy: Anatomy) -> None:
    @strategy
    def rising(anatomy: Anatomy, defaults: Defaults, blocks: int = 2) -> Plan:
        """Bottom-up, some blocks at a time, the head's rate ten times higher, at last everything."""
        fast = {anatomy.head.name: 10.0}
        names = [group.name for group in anatomy.blocks]
        phases: list[Phase] = []
        for start in range(0, len(names), blocks):
            some = names[start : start + blocks]
            phases.append(tuning_phase(defaults, " and ".join(some), head() + groups(*some), 1, fast))
        phases.append(tuning_phase(defaults, "everything", everything(), 1, fast))
        return Plan(edits=defaults.edits, phases=tuple(phases))

    try:
        plan = parse_strategy("rising(blocks=2, learning_rate=1e-4)")(anatomy, Defaults())
    finally:
        del STRATEGIES["rising"]
    assert [str(phase.train) for phase in plan.phases[:-1]] == [
        f"head() + groups({', '.join(repr(g.name) for g in anatomy.blocks[s : s + 2])})"
        for s in range(0, len(anatomy.blocks), 2)
    ]
    assert plan.phases[-1].train == everything()
    for phase in plan.phases:
        assert phase.rate.at(5, 100, "head") == 10 * phase.rate.at(5, 100, anatomy.blocks[0].name)
        assert phase.train.on(anatomy)
