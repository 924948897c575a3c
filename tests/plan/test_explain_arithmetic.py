"""What `explain` says of a plan: parameters that move, rates, steps, and what lies below them."""

from __future__ import annotations

import pytest

from whet.errors import SelectionError
from whet.plan.anatomy import Anatomy
from whet.plan.explain import explain
from whet.plan.schedules import Constant
from whet.plan.select import Select
from whet.plan.strategy import parse_strategy
from whet.plan.values import Defaults, Length, Phase, Plan, Rate


def plan_of(train: str, length: str = "1 epoch", **rate: object) -> Plan:
    made = Rate.model_validate({"base": 0.1, "schedule": Constant(), **rate})
    return Plan(phases=(Phase(name="p", train=Select.parse(train), length=Length.parse(length), rate=made),))


@pytest.mark.parametrize(
    ("train", "moves", "groups", "frozen_below"),
    [
        ("everything()", 893, {"words": 500, "layer.0": 120, "layer.1": 120, "layer.2": 120, "head": 33}, None),
        ("head()", 33, {"head": 33}, "head"),
        ("top(1)", 153, {"layer.2": 120, "head": 33}, "layer.2"),
        ("head() + kinds('bias')", 63, {"layer.0": 10, "layer.1": 10, "layer.2": 10, "head": 33}, "layer.0"),
        ("groups('words')", 500, {"words": 500}, None),
    ],
)
def test_what_moves(anatomy: Anatomy, train: str, moves: int, groups: dict[str, int], frozen_below: str | None) -> None:
    (facts,) = explain(plan_of(train), anatomy, rows=100, batch_size=16)
    assert facts.moves == moves
    assert facts.groups == groups
    assert facts.frozen_below == frozen_below


@pytest.mark.parametrize(
    ("length", "rows", "batch_size", "steps"),
    [
        ("3 epochs", 100, 16, 21),
        ("3 epochs", 96, 16, 18),
        ("1 epoch", 5, 16, 1),
        ("0.5 epochs", 100, 10, 5),
        ("500 steps", 100, 16, 500),
        ("5 min", 100, 16, None),
    ],
)
def test_how_many_steps(anatomy: Anatomy, length: str, rows: int, batch_size: int, steps: int | None) -> None:
    (facts,) = explain(plan_of("head()", length), anatomy, rows, batch_size)
    assert facts.steps == steps
    assert facts.length == length


def test_rates_are_base_times_factor_of_what_moves(anatomy: Anatomy) -> None:
    (facts,) = explain(plan_of("top(1)", factors={"layer.2": 0.5, "words": 9.0}), anatomy, rows=10, batch_size=1)
    assert facts.rates == {"layer.2": pytest.approx(0.05), "head": pytest.approx(0.1)}


def test_one_line_of_facts_per_phase(anatomy: Anatomy) -> None:
    plan = parse_strategy("then(probe, full)")(anatomy, Defaults())
    facts = explain(plan, anatomy, rows=100, batch_size=16)
    assert [phase.moves for phase in facts] == [33, 893]


def test_a_phase_that_moves_nothing_is_refused(anatomy: Anatomy) -> None:
    with pytest.raises(SelectionError, match="selects nothing"):
        explain(plan_of("head() - head()"), anatomy, rows=10, batch_size=1)
