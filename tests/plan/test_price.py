"""The price of a plan, by hand: what moves costs gradients and optimizer, what is frozen is computed once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.plan.anatomy import Anatomy, Parameter
from whet.plan.course import course
from whet.plan.price import MEBI, Batch, Epoch, Footprint, Line, Machine, Price, Rates, State, Work
from whet.plan.pricing import Measured, price
from whet.plan.seconds import validations
from whet.plan.strategy import parse_strategy
from whet.plan.values import Defaults, Length, Plan

GROUPS = ("words", "layer.0", "layer.1", "layer.2", "head")
STATES = {name: State(size=20, padded=True) for name in GROUPS[1:4]} | {"head": State(size=40, padded=False)}
MACHINE = Machine(resident=100 * MEBI, highest=100 * MEBI, free=1000 * MEBI)


def work(phases: int = 1, batches: tuple[Batch, ...] | None = None, **changes: Any) -> Work:
    """Ten steps of sixteen rows of 32 tokens in each phase; one validation of as many rows."""
    batch = Batch(16, 32)
    made = Work(
        epochs=(Epoch(steps=10, batches=batches or (batch._replace(times=10),), vectors=1.0),) * phases,
        train=(batch._replace(times=10),),
        once=(batch._replace(times=11),),
        valid=(batch,),
        test=(batch,),
        exact=(batch,),
        train_rows=160,
        rows=176,
        tokens=5000,
        narrowed={},
        rounded={},
        states=STATES,
        budgets=(),
        half=False,
        checkpointing=False,
        validations_per_epoch=1,
        checkpoint_seconds=60.0,
    )
    return made.model_copy(update=changes)


def for_plan(own: Work, plan: Plan) -> Work:
    """The work with an epoch for each phase of a plan."""
    return own if len(own.epochs) > 1 else own.model_copy(update={"epochs": own.epochs * len(plan.phases)})


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
        pull=0.0,
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
    plan = plan_of(text, anatomy, **defaults)
    return price(plan, anatomy, for_plan(own or work(), plan), measured)


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
    plan = plan_of(strategy, anatomy)
    stretches = course(plan, anatomy, for_plan(work(), plan))
    assert [set(stretch.computed) for stretch in stretches] == computed


def test_states_of_an_earlier_run_cost_no_pass(anatomy: Anatomy) -> None:
    left = {name: state.model_copy(update={"cached": True}) for name, state in STATES.items()}
    assert all(not stretch.computed for stretch in course(plan_of("lift", anatomy), anatomy, work(4, states=left)))
    bottom_up = course(plan_of("lift(order='bottom-up')", anatomy), anatomy, work(4, states=left))
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
    first, second, *_ = course(plan_of("lift", anatomy), anatomy, work(4))
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
    found = price(plan_of("lift", anatomy), anatomy, work(4), Measured(MACHINE, footprint(), None, "too short"))
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
    assert validations(steps, per_epoch, per) == due


def test_replayed_rows_make_more_steps_and_more_batches(anatomy: Anatomy) -> None:
    """An epoch of a phase is its own: more steps where other rows stand in the batches, each with what they cost."""
    own, other = Batch(12, 32, 14), Batch(4, 64, 14)
    replay = Epoch(steps=14, batches=(own, other), vectors=2.0)
    mixed = work(epochs=(replay, *work().epochs))
    plan = Plan(phases=plan_of("full", anatomy).phases * 2)
    timed = Measured(MACHINE, footprint(), rates(moving=Line(token=1.0)), "")
    first, second = (phase.seconds for phase in price(plan, anatomy, mixed, timed).phases)
    assert first
    assert second
    assert first.steps == pytest.approx(own.tokens * 14 + other.tokens * 14)
    assert second.steps == pytest.approx(5120)
    (stretch, _) = course(plan, anatomy, mixed)
    assert stretch.steps == 14
    vectors = rates(vectors=1.0)
    (head,) = priced("probe(length='2 epochs', stop=100)", anatomy, work(epochs=(replay,)), vectors).phases
    assert head.seconds
    assert head.seconds.steps == pytest.approx(2 * 14 * 2)


def test_a_pull_to_weights_keeps_a_copy_and_costs_each_number(anatomy: Anatomy) -> None:
    body = anatomy.size - anatomy.head.size
    timed = rates(pull=1.0)
    plain, pulled = (priced(text, anatomy, timed=timed) for text in ("full", "pull_to_base(weights=0.1)"))
    assert plain.phases[0].memory.pulls == 0
    assert pulled.phases[0].memory.pulls == pytest.approx(4 * body / MEBI, abs=1e-3)
    spent = [found.phases[0].seconds for found in (plain, pulled)]
    assert spent[0]
    assert spent[1]
    assert spent[1].steps - spent[0].steps == pytest.approx(10 * body, rel=1e-6)
    assert pulled.before_seconds == 0


def test_a_pull_to_features_costs_a_pass_over_the_training_rows(anatomy: Anatomy) -> None:
    found = priced("pull_to_base(features=1.0)", anatomy, timed=rates(still=Line(token=1.0)))
    assert found.before_seconds == pytest.approx(5120 * 0.8)
    assert found.phases[0].memory.pulls == pytest.approx(4 * 160 * 10 / MEBI, abs=1e-3)
    assert found.seconds
    assert found.test_seconds is not None
    every = sum(phase.seconds.total for phase in found.phases if phase.seconds)
    assert found.seconds == pytest.approx(every + found.before_seconds + found.test_seconds, rel=1e-6)


@pytest.mark.parametrize(
    ("strategy", "validations", "copies"), [("interpolate", 11, 3), ("interpolate(share=0.5)", 1, 3), ("average", 1, 2)]
)
def test_weights_made_after_training_are_scored_and_held(
    strategy: str, validations: int, copies: int, anatomy: Anatomy
) -> None:
    """A validation for each, and copies of all that moved; the pretrained weights once more where they are needed."""
    found = priced(strategy, anatomy, timed=rates(still=Line(token=1.0)))
    assert found.after
    assert found.after.seconds
    assert found.after.seconds.total == pytest.approx(validations * 512)
    whole = 4 * anatomy.size / MEBI
    assert found.after.memory.weights == pytest.approx((1 + copies) * whole, abs=2e-3)
    assert priced("full", anatomy).after is None


def test_what_is_done_in_the_end_counts_where_it_needs_most(anatomy: Anatomy) -> None:
    found = priced("interpolate(top(1))", anatomy)
    small = found.model_copy(update={"free_mb": 0.0, "held_mb": found.phases[0].memory.total})
    assert found.after
    dear = found.after.memory.model_copy(update={"total": 1e6})
    assert small.model_copy(update={"after": found.after.model_copy(update={"memory": dear})}).fits is False


def test_adapters_move_without_the_weights_beside_them(anatomy: Anatomy) -> None:
    """They cost what a passing gradient costs, and what is saved is they and the head."""
    blocks = [
        group.model_copy(update={"parameters": (*group.parameters, adapter)})
        for group in anatomy.blocks
        for adapter in [Parameter(name=f"{group.name}.low", size=7, kind="weight")]
    ]
    added = tuple(f"{block.name}.low" for block in blocks)
    update = {"groups": (anatomy.groups[0], *blocks, anatomy.head), "added": added}
    adapted = anatomy.model_copy(update=update)
    timed = rates(moving=Line(token=3.0), passing=Line(token=2.0), still=Line())
    found = priced("lora", adapted, work(half=True), timed)
    (phase,) = found.phases
    assert phase.seconds
    assert phase.seconds.steps == pytest.approx(5120 * (0.6 * 2 + 0.2 * 3))
    assert phase.memory.gradients == pytest.approx(4 * (3 * 7 + 33) / MEBI, abs=1e-3)
    large = adapted.model_copy(
        update={"groups": (anatomy.groups[0].model_copy(update={"parameters": ()}), *blocks, anatomy.head)}
    )
    saved, merged = (priced(text, large).disk for text in ("lora", "lora(merge=True)"))
    assert saved.model == pytest.approx(4 * (3 * 7 + 33) / MEBI, abs=1e-3)
    assert merged.model > saved.model


def test_rounded_weights_take_the_bytes_that_they_take(anatomy: Anatomy) -> None:
    rounded = {f"layer.{number}.dense.weight": 25 for number in range(3)}
    whole, small = (priced("bitfit", anatomy, work(half=True, rounded=one)).phases[0].memory for one in ({}, rounded))
    assert whole.weights == pytest.approx((4 * anatomy.size + 2 * 300) / MEBI, abs=1e-3)
    assert small.weights == pytest.approx((4 * (anatomy.size - 300) + 3 * 25) / MEBI, abs=1e-3)


def test_what_is_scored_in_fp32_after_training_counts(anatomy: Anatomy) -> None:
    batch, more = Batch(16, 32), Batch(8, 8)
    one, both = (priced("full", anatomy, work(exact=parts)).test_seconds for parts in ((batch,), (batch, more, more)))
    assert one is not None
    assert both is not None
    assert both == pytest.approx(one + 2 * 64 * 4e-6, abs=2e-3)
