"""Strategies that add to a frozen body: what they plan, how they are wrapped and joined, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

import whet
from whet.errors import StrategyError
from whet.plan.adapting import check_edits, check_moves
from whet.plan.anatomy import Anatomy, Parameter
from whet.plan.edits import Average, LowRank, Merge, NewHead, Prefix, Prompt, QuantizeBody
from whet.plan.explain import lowest_moving
from whet.plan.strategy import parse_strategy
from whet.plan.values import Defaults, Plan

HEAD = {"out.weight", "out.bias"}


@pytest.fixture
def adapted(anatomy: Anatomy) -> Anatomy:
    """The small anatomy with an adapter of two tensors in each block but the lowest."""
    groups, added = [], []
    for group in anatomy.groups:
        if group.kind == "block" and group.name != "layer.0":
            own = tuple(Parameter(name=f"{group.name}.lora_{part}", size=8, kind="weight") for part in "AB")
            added += [parameter.name for parameter in own]
            group = group.model_copy(update={"parameters": (*group.parameters, *own)})
        groups.append(group)
    return anatomy.model_copy(update={"groups": tuple(groups), "added": tuple(added)})


def planned(text: str, anatomy: Anatomy, **defaults: Any) -> Plan:
    return parse_strategy(text)(anatomy, Defaults(edits=(NewHead(),), **defaults))


def low_rank(plan: Plan) -> LowRank:
    return next(edit for edit in plan.edits if isinstance(edit, LowRank))


def test_what_is_added_and_the_head_move_and_nothing_else(adapted: Anatomy) -> None:
    for text in ("lora", "prefix", "prompt"):
        (phase,) = planned(text, adapted).phases
        assert phase.train.on(adapted) == {*adapted.added, *HEAD}
    assert lowest_moving(adapted, phase.train.on(adapted)) == "layer.1"


def test_the_arguments_of_lora_are_the_edit(anatomy: Anatomy) -> None:
    edit = low_rank(planned("lora(rank=4, alpha=32, targets='query', dropout=0.1, dora=True)", anatomy))
    assert (edit.rank, edit.alpha, edit.targets, edit.dropout, edit.dora) == (4, 32, ("query",), 0.1, True)
    assert low_rank(planned("lora(targets=['query', 'value'])", anatomy)).targets == ("query", "value")
    assert low_rank(planned("lora(rank_stabilized=True)", anatomy)).rank_stabilized


def test_blocks_keep_adapters_to_the_topmost(anatomy: Anatomy) -> None:
    assert low_rank(planned("lora", anatomy)).within == ("layer.0", "layer.1", "layer.2")
    assert low_rank(planned("lora(blocks=1)", anatomy)).within == ("layer.2",)
    for wrong in (0, 4, -1):
        with pytest.raises(StrategyError, match="has 3 blocks"):
            planned(f"lora(blocks={wrong})", anatomy)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lora(rank=0)", "strategy lora, argument rank"),
        ("lora(alpha=0)", "strategy lora, argument alpha"),
        ("lora(dropout=1)", "strategy lora, argument dropout"),
        ("lora(targets=[3])", "strategy lora, argument targets"),
        ("lora(rnak=3)", "did you mean rank?"),
        ("prefix(tokens=0)", "strategy prefix, argument tokens"),
        ("prompt(0)", "strategy prompt, argument tokens"),
    ],
)
def test_wrong_arguments_are_named(text: str, says: str, anatomy: Anatomy) -> None:
    with pytest.raises(StrategyError) as caught:
        planned(text, anatomy)
    assert says in str(caught.value)


def test_a_rate_per_group_reaches_adapters(adapted: Anatomy) -> None:
    (phase,) = planned("discriminative(lora, decay=0.5)", adapted).phases
    assert phase.rate.factors == {"layer.1": 0.25, "layer.2": 0.5, "head": 1.0}


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        ("lora(merge=True)", (Merge(),)),
        ("average(lora, best=2)", (Average(best=2),)),
        ("average(lora(merge=True), best=2)", (Average(best=2), Merge())),
        ("then(lora(merge=True), average(lora(merge=True), best=2))", (Average(best=2), Merge())),
    ],
)
def test_merging_comes_once_and_last(text: str, finish: tuple[Any, ...], anatomy: Anatomy) -> None:
    plan = planned(text, anatomy)
    assert plan.finish == finish
    check_edits(plan)


def test_a_probe_can_come_before_low_rank_adapters(anatomy: Anatomy) -> None:
    for text in ("then(probe, lora)", "then(lora, probe)", "then(lora, lora)"):
        plan = planned(text, anatomy)
        assert [type(edit) for edit in plan.edits] == [NewHead, LowRank]
        assert len(plan.phases) == 2


@pytest.mark.parametrize(
    "text",
    ["then(probe, prompt)", "then(prefix, lora)", "then(lora(rank=2), lora(rank=4))", "then(probe(depth=2), lora)"],
)
def test_what_changes_the_model_otherwise_is_not_joined(text: str, anatomy: Anatomy) -> None:
    with pytest.raises(StrategyError, match="must change the model alike"):
        planned(text, anatomy)


INT8 = QuantizeBody(to="int8")


@pytest.mark.parametrize(
    ("edits", "finish", "says"),
    [
        ((LowRank(), Prompt()), (), "adds low rank and prompt to one model"),
        ((INT8,), (), "this strategy adds none"),
        ((), (Merge(),), "the plan has none"),
        ((Prefix(),), (Merge(),), "the plan has none"),
        ((INT8, LowRank()), (Merge(),), "would round the adapters away"),
        ((LowRank(),), (Merge(), Average(best=2)), "last of what is done after training"),
        ((LowRank(),), (Merge(), Merge()), "comes once"),
    ],
)
def test_edits_that_cannot_go_together_are_refused(
    edits: tuple[Any, ...], finish: tuple[Any, ...], says: str, anatomy: Anatomy
) -> None:
    plan = planned("full", anatomy).model_copy(update={"edits": edits, "finish": finish})
    with pytest.raises(StrategyError) as caught:
        check_edits(plan)
    assert says in str(caught.value)


def test_a_quantised_body_goes_with_every_adapter(anatomy: Anatomy) -> None:
    for name in ("lora", "prefix", "prompt"):
        check_edits(parse_strategy(name)(anatomy, Defaults(edits=(NewHead(), INT8))))


def test_weights_that_an_adapter_does_not_hold_cannot_move(adapted: Anatomy) -> None:
    for text in ("lora", "then(probe, lora)", "prompt", "full", "then(lora(merge=True), full)"):
        check_moves(planned(text, adapted), adapted)
    with pytest.raises(StrategyError, match=r"phase 'all groups' moves weights of the body itself.*merge=True"):
        check_moves(planned("then(lora, full)", adapted), adapted)
    with pytest.raises(StrategyError, match=r"for example layer\.2\.dense\.bias"):
        check_moves(planned("then(lora, top(1))", adapted), adapted)


def test_what_is_asked_of_a_run_wins_over_the_strategy(anatomy: Anatomy) -> None:
    (phase,) = planned("lora", anatomy, learning_rate=0.5).phases
    assert phase.rate.base == 0.5
    assert whet.lora(learning_rate=0.25)(anatomy, Defaults(learning_rate=0.5)).phases[0].rate.base == 0.25
