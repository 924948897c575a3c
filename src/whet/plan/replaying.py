"""Strategies that mix rows of other data into the batches: of an earlier task, or of broader data of the same task."""

from __future__ import annotations

from typing import Literal, get_args

from whet.errors import StrategyError, did_you_mean
from whet.plan.anatomy import Anatomy
from whet.plan.replay import Replay
from whet.plan.strategies import FULL
from whet.plan.strategy import Strategy, strategy
from whet.plan.values import Defaults, Length, Phase, Plan

Keep = Literal["all", "reservoir"]


@strategy
def with_replay(
    anatomy: Anatomy,
    defaults: Defaults,
    base: Strategy = FULL,
    source: str = "",
    share: float = 0.2,
    keep: Keep = "all",
    rows: int = 500,
) -> Plan:
    """A strategy whose batches hold, beside the task's rows, the `share` of rows from the file `source`, of an earlier
    task (experience replay, Robins 1995, https://doi.org/10.1080/09540099550039318). Wraps any strategy.

    Rows with the same labels share the head; with other labels they get a head of their own, which starts as the
    pretrained model's where that was made for them. Pays where an earlier task must still work and its rows are at
    hand. Costs the share of each step. `keep="reservoir"` uses only so many `rows`, drawn once.
    Default: a fifth, unmeasured.
    """
    return replayed(base(anatomy, defaults), made("with_replay", source, share, keep, rows))


@strategy
def gradual_fine_tuning(
    anatomy: Anatomy,
    defaults: Defaults,
    base: Strategy = FULL,
    source: str = "",
    shares: tuple[float, ...] = (0.8, 0.4, 0.0),
) -> Plan:
    """From broad data to the task's own: the strategy's phases once for each share, with that share of each batch from
    the broader rows in `source` (gradual fine-tuning, Xu et al. 2021, https://arxiv.org/abs/2103.02205). Wraps any
    strategy; each turn of its phases is one epoch of the task's rows unless told otherwise.

    Pays where the task's own rows are few and broader ones of the same labels are many. Does not pay where the two
    differ so much that the first turns teach the wrong thing. Default: the falling shares 0.8, 0.4 and 0.
    """
    if not shares or any(not 0 <= share < 1 for share in shares):
        raise StrategyError(f"gradual_fine_tuning(shares={list(shares)}): give shares from 0 to below 1")
    plan, phases = base(anatomy, defaults), list[Phase]()
    for share in shares:
        replay = (made("gradual_fine_tuning", source, share),) if share else ()
        name = f"{share:g} broad" if share else "own rows"
        for phase in plan.phases:
            length = phase.length if defaults.length else Length(amount=1, unit="epochs")
            update = {"name": f"{phase.name}, {name}", "replay": (*phase.replay, *replay), "length": length}
            phases.append(phase.model_copy(update=update))
    return plan.model_copy(update={"phases": tuple(phases)})


def made(name: str, source: str, share: float, keep: str = "all", rows: int = 500) -> Replay:
    if not source:
        raise StrategyError(f"{name} needs a file of labelled rows: {name}(source='earlier.csv')")
    if keep not in get_args(Keep):
        raise StrategyError(f"{name}(keep={keep!r}): {did_you_mean(keep, get_args(Keep))}")
    if not 0 < share < 1 or rows < 1:
        raise StrategyError(f"{name}: share must lie between 0 and 1, and rows be 1 or more")
    return Replay(source=source, share=share, keep=keep, rows=rows)  # type: ignore[arg-type]


def replayed(plan: Plan, replay: Replay) -> Plan:
    """The plan with the replay in each phase."""
    phases = [phase.model_copy(update={"replay": (*phase.replay, replay)}) for phase in plan.phases]
    return plan.model_copy(update={"phases": tuple(phases)})
