"""The price of a plan, by hand: what moves costs gradients and optimizer, what is frozen is computed once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.plan.anatomy import Anatomy
from whet.plan.course import course
from whet.plan.price import MEBI, Batch, Footprint, Line, Machine, Price, Rates, State, Work
from whet.plan.pricing import Measured, price
from whet.plan.seconds import validations
from whet.plan.strategy import parse_strategy
from whet.plan.values import Defaults, Length, Plan

GROUPS = ("words", "layer.0", "layer.1", "layer.2", "head")
STATES = {name: State(size=20, padded=True) for name in GROUPS[1:4]} | {"head": State(size=40, padded=False)}
MACHINE = Machine(resident=100 * MEBI, highest=100 * MEBI, free=1000 * MEBI)


def work(**changes: Any) -> Work:
    """Ten steps of sixteen rows of 32 tokens; one validation of as many rows."""
    batch = Batch(16, 32)
    made = Work(
        per_epoch=10,
        batches=(batch._replace(times=10),),
        vectors=1.0,
        once=(batch._replace(times=11),),
        valid=(batch,),
        test=(batch,),
        rows=176,
        tokens=5000,
        narrowed={},
        states=STATES,
        budgets=(),
        half=False,
        checkpointing=False,
        validations_per_epoch=1,
        checkpoint_seconds=60.0,
    )
    return made.model_copy(update=changes)


def rates(**changes: Any) -> Rates:
    """A pass takes a microsecond for each token, on its way back twice that with weights and once without."""
    made = Rates(
        moving=Line(token=3e-6),
        passing=Line(token=2e-6),
        still=Line(token=1e-6),
        exact=Line(token=4e-6),
        shares=dict.fromkeys(GROUPS, 0.2),
        number={"adamw": 0.0, "sgd": 0.0},
        table=0.0,
        vectors=0.0,
        step=0.0,
        first=(0.0, 0.0),
        save=0.0,
        byte=0.0,
    )
    return made.model_copy(update=changes)


def footprint() -> Footprint:
    """A group keeps 2 KiB of a token where its weights move, 1 KiB where the gradient only passes."""
    return Footprint(
        moving={name: Line(token=2048.0) for name in GROUPS}, passing={name: Line(token=1024.0) for name in GROUPS}
    )


def plan_of(text: str, anatomy: Anatomy, **defaults: Any) -> Plan:
    return parse_strategy(text)(anatomy, Defaults(length=Length(amount=1, unit="epochs"), **defaults))


def priced(text: str, anatomy: Anatomy, own: Work | None = None, timed: Rates | None = None, **defaults: Any) -> Price:
    measured = Measured(MACHINE, footprint(), timed or rates(), "")
    return price(plan_of(text, anatomy, **defaults), anatomy, own or work(), measured)


def test_a_frozen_body_is_passed_once_however_long_the_head_trains(anatomy: Anatomy) -> None:
    for epochs in (1, 50):
        (phase,) = priced(f"probe(length='{epochs} epochs', stop=100)", anatomy).phases
        assert phase.seconds
        # 11 batches of 512 tokens, at a microsecond each, through four of five groups
        assert phase.seconds.capture == pytest.approx(11 * 512e-6 * 0.8, abs=1e-3)
        assert phase.seconds.steps == 0


def test_a_step_costs_what_it_passes_and_more_for_weights_that_move(anatomy: Anatomy) -> None:
    tokens, epoch = 512, 10

    def steps(strategy: str) -> float:
        found = priced(strategy, anatomy, timed=rates(moving=Line(token=3.0), passing=Line(token=2.0))).phases[-1]
        assert found.seconds
        return found.seconds.steps / tokens / epoch

    assert steps("full") == pytest.approx(3)
    assert steps("top(1)") == pytest.approx(0.4 * 3)
    assert steps("phases('groups(\"layer.1\")')") == pytest.approx(0.2 * 3 + 0.4 * 2)
    assert steps('phases(\'groups("layer.0", "layer.2")\')') == pytest.approx(0.4 * 3 + 0.4 * 2)


def test_what_cannot_be_cut_is_computed_in_every_step(anatomy: Anatomy) -> None:
    timed = rates(moving=Line(token=3.0), still=Line(token=1.0))
    whole = priced("top(1)", anatomy, work(states={}), timed).phases[0].seconds
    assert whole
    assert whole.capture == 0
    assert whole.steps == pytest.approx(5120 * (0.4 * 3 + 0.6 * 1))


@pytest.mark.parametrize(
    ("strategy", "computed"),
    [
        ("lift", [{"head", "layer.2", "layer.1", "layer.0"}, set(), set(), set()]),
        ("lift(order='bottom-up')", [{"head", "layer.0"}, set(), {"layer.1"}, {"layer.2"}]),
        ("full", [set()]),
        ("gradual_unfreezing", [{"head", "layer.2", "layer.1", "layer.0"}, set(), set(), set(), set()]),
    ],
)
def test_one_pass_feeds_the_phases_for_which_it_still_holds(
    strategy: str, computed: list[set[str]], anatomy: Anatomy
) -> None:
    stretches = course(plan_of(strategy, anatomy), anatomy, work())
    assert [set(stretch.computed) for stretch in stretches] == computed


def test_states_of_an_earlier_run_cost_no_pass(anatomy: Anatomy) -> None:
    left = {name: state.model_copy(update={"cached": True}) for name, state in STATES.items()}
    assert all(not stretch.computed for stretch in course(plan_of("lift", anatomy), anatomy, work(states=left)))
    bottom_up = course(plan_of("lift(order='bottom-up')", anatomy), anatomy, work(states=left))
    assert [set(stretch.computed) for stretch in bottom_up] == [set(), set(), {"layer.1"}, {"layer.2"}]


@pytest.mark.parametrize(
    ("optimizer", "numbers"), [("adamw", 2), ("adam", 2), ("adagrad", 1), ("sgd", 1), ("sgd(momentum=0)", 0)]
)
def test_gradients_and_optimizer_are_four_bytes_a_number(optimizer: str, numbers: int, anatomy: Anatomy) -> None:
    found = priced("full", anatomy, timed=rates(number=dict.fromkeys(("adamw", "adam", "sgd", "adagrad"), 0.0)))
    assert found.phases[0].memory.gradients == pytest.approx(4 * anatomy.size / MEBI, abs=1e-3)
    plan = plan_of("full", anatomy, optimizer=optimizer)
    (stretch,) = course(plan, anatomy, work())
    assert stretch.optimizer == 4 * numbers * anatomy.size


def test_of_a_token_table_only_the_rows_in_use_train(anatomy: Anatomy) -> None:
    (stretch,) = course(plan_of("full", anatomy), anatomy, work(narrowed={"words.weight": 40}))
    assert stretch.numbers == anatomy.size - 500 + 40


def test_the_optimizer_of_a_phase_stays_through_the_next(anatomy: Anatomy) -> None:
    first, second, *_ = course(plan_of("lift", anatomy), anatomy, work())
    assert second.optimizer_before == first.optimizer == 8 * 33


def test_less_is_kept_where_less_moves_at_once_or_is_recomputed(anatomy: Anatomy) -> None:
    def kept(strategy: str, **changes: Any) -> float:
        return max(phase.memory.activations for phase in priced(strategy, anatomy, work(**changes)).phases)

    full = kept("full")
    assert kept("bitfit") < full
    assert kept("top(1)") < full
    assert kept("full", checkpointing=True) < full
    assert kept("full", batches=(Batch(4, 32, 40),)) < full
    assert kept("full", batches=(Batch(8, 32, 10), Batch(16, 32, 5))) == pytest.approx(full, rel=1e-6)


def test_what_is_only_timed_is_held_too(anatomy: Anatomy) -> None:
    tried = work(budgets=(Batch(64, 32, 3),))
    one, both = (priced("full", anatomy, own).phases[0] for own in (work(), tried))
    assert both.memory.activations == pytest.approx(4 * one.memory.activations, rel=1e-3)
    assert both.seconds
    assert one.seconds
    assert both.seconds.steps == pytest.approx(one.seconds.steps + 3 * 2048 * 3e-6, abs=2e-3)


def test_rows_of_many_widths_leave_more_memory_unused_the_longer_a_run_is(anatomy: Anatomy) -> None:
    many = work(batches=(Batch(16, 24, 5), Batch(16, 32, 5)))
    short, long = (priced(f"full(length='{epochs} epochs')", anatomy, many) for epochs in (1, 100))
    assert long.phases[0].memory.activations > short.phases[0].memory.activations
    assert short.peak_mb > priced("full", anatomy).peak_mb


def test_states_beyond_a_part_of_the_free_memory_go_to_the_disk(anatomy: Anatomy) -> None:
    large = {"head": State(size=10 * MEBI, padded=False)}
    found = priced("probe", anatomy, work(states=large))
    assert found.phases[0].memory.captures == 250
    assert found.disk.captures == pytest.approx(2 * 1760 - 250)


def test_minutes_are_what_the_steps_and_their_validations_take(anatomy: Anatomy) -> None:
    timed = rates(moving=Line(token=1e-5), still=Line(token=1e-5))
    plan = plan_of("full", anatomy).phases[0].model_copy(update={"length": Length(amount=2, unit="min")})
    measured = Measured(MACHINE, footprint(), timed, "")
    seconds = price(Plan(phases=(plan,)), anatomy, work(), measured).phases[0].seconds
    assert seconds
    assert seconds.total == pytest.approx(120, rel=0.02)


def test_without_rates_only_memory_and_disk_are_priced(anatomy: Anatomy) -> None:
    found = price(plan_of("lift", anatomy), anatomy, work(), Measured(MACHINE, footprint(), None, "too short"))
    assert found.seconds is None
    assert all(phase.seconds is None for phase in found.phases)
    assert found.peak_mb > 100
    assert found.timed == "too short"


def test_a_run_fits_where_what_it_takes_beside_is_free(anatomy: Anatomy) -> None:
    found = priced("full", anatomy)
    need = found.dearest.memory.total - found.held_mb
    assert need > 0
    assert found.model_copy(update={"peak_mb": 9999.0, "free_mb": need + 1}).fits, "loading is over"
    assert found.model_copy(update={"free_mb": need + 1}).fits
    assert not found.model_copy(update={"free_mb": need - 1}).fits


@given(steps=st.integers(1, 60), per_epoch=st.integers(1, 25), per=st.integers(1, 6))
def test_validations_are_counted_as_the_loop_counts_them(steps: int, per_epoch: int, per: int) -> None:
    due = sum(done * per // per_epoch > (done - 1) * per // per_epoch or done == steps for done in range(1, steps + 1))
    assert validations(steps, work(per_epoch=per_epoch, validations_per_epoch=per)) == due
