"""Strategies as texts: read, printed and read again; never evaluated; wrong names get the nearest right one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import whet
from whet.errors import StrategyError, UsageError
from whet.plan import strategies  # noqa: F401 (registers them)
from whet.plan.anatomy import Anatomy
from whet.plan.schedules import Cosine
from whet.plan.strategy import STRATEGIES, Strategy, parse_strategy
from whet.plan.text import Call, Combined, parse
from whet.plan.values import SGD, Defaults, Length, Plan

OPTIONS: dict[str, Any] = {
    "learning_rate": 3e-5,
    "length": "7 steps",
    "optimizer": "sgd(momentum=0.5)",
    "weight_decay": 0.2,
    "schedule": "cosine",
    "warmup": 0.25,
}


NEEDS = {
    "with_replay": "needs a file of labelled rows",
    "gradual_fine_tuning": "needs a file of labelled rows",
    "kl_to_base": "add --head kept",
}
"""What strategies say that cannot run bare."""


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_runs_bare_and_reads_back(name: str, anatomy: Anatomy) -> None:
    made = parse_strategy(name)
    assert str(made) == name
    assert parse_strategy(f"{name}()") == made == STRATEGIES[name]()
    if name in NEEDS:
        with pytest.raises(StrategyError, match=NEEDS[name]):
            made(anatomy, Defaults())
        return
    plan = made(anatomy, Defaults())
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    for phase in plan.phases:
        assert phase.train.on(anatomy)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_takes_the_common_arguments(name: str) -> None:
    made = STRATEGIES[name](**OPTIONS)
    assert parse_strategy(str(made)) == made
    assert str(parse_strategy(str(made))) == str(made)


def test_what_is_given_to_a_strategy_wins_over_the_options_of_the_call(anatomy: Anatomy) -> None:
    asked = Defaults(learning_rate=1.0, length=Length.parse("1 epoch"))
    phase = parse_strategy("full(learning_rate=3e-5, optimizer='sgd')")(anatomy, asked).phases[0]
    assert phase.rate.base == 3e-5
    assert phase.length == Length.parse("1 epoch")
    assert phase.optimizer == SGD()


def test_values_given_in_python_become_texts_that_read_back(anatomy: Anatomy) -> None:
    made = whet.full(length=Length.parse("3 epochs"), optimizer=SGD(momentum=0.5), schedule=Cosine())
    again = parse_strategy(str(made))
    assert again == made
    assert again(anatomy, Defaults()) == made(anatomy, Defaults())


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "__import__('os')",
        "eval('1')",
        "open('/etc/passwd')",
        "full.__class__",
        "full()()",
        "full[0]",
        "lambda: full",
        "[x for x in full]",
        "full if full else full",
        "full(learning_rate=1e-4 * 2)",
        "full(learning_rate=__import__('os').getpid())",
        "full(**{'learning_rate': 1})",
        "full(*[1])",
        "f'{full}'",
        "full; full",
        "full or full",
        "(x := full)",
    ],
)
def test_a_text_is_parsed_and_never_evaluated(text: str) -> None:
    with pytest.raises(StrategyError):
        parse_strategy(text)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=30) | st.text(st.sampled_from("full()=+-,.[]'\"1e x\0\\"), max_size=20))
def test_any_text_is_a_strategy_or_a_strategy_error(text: str) -> None:
    try:
        made = parse_strategy(text)
    except StrategyError:
        return
    assert isinstance(made, Strategy)


@pytest.mark.parametrize("text", ["(" * 500, "-" * 20_000 + "1", "full(" * 200 + ")" * 200], ids=["(", "-", "full("])
def test_a_text_too_deep_to_read_is_refused(text: str) -> None:
    with pytest.raises(StrategyError) as caught:
        parse_strategy(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ful", "unknown strategy 'ful'; did you mean full?"),
        ("FULL", "did you mean full?"),
        ("prob()", "did you mean probe?"),
        ("xyz", "known are: "),
        ("", "cannot read ''"),
        ("full(", "write it like name, or name(argument=value)"),
        ("full(learning_rat=1)", "strategy full has no argument 'learning_rat'; did you mean learning_rate?"),
        ("full(lr=1)", "did you mean learning_rate?"),
        ("full(3)", "strategy full: too many positional arguments"),
        ("full(length=3)", "3: 3 what?"),
        ("full(length='3')", "'3': 3 what?"),
        ("full(optimizer='sgdd')", "argument optimizer: unknown optimizer 'sgdd'; did you mean sgd?"),
        ("full(optimizer='sgd(momentun=0.5)')", "no argument 'momentun'; did you mean momentum?"),
        ("full(learning_rate=0)", "argument learning_rate: Input should be greater than 0"),
        ("full(learning_rate='fast')", "argument learning_rate"),
        ("full(weight_decay=-1)", "argument weight_decay"),
        ("full(warmup=3)", "argument warmup"),
        ("full + probe", "cannot be joined by +"),
        ("'full'", "is no strategy"),
        ("3", "is no strategy"),
    ],
)
def test_wrong_texts_say_what_is_right(text: str, says: str) -> None:
    with pytest.raises(StrategyError) as caught:
        parse_strategy(text)
    assert says in str(caught.value)


def test_a_wrong_argument_in_python_is_the_same_error() -> None:
    with pytest.raises(StrategyError, match="did you mean learning_rate"):
        whet.full(learning_rat=1)


def test_strategies_are_values() -> None:
    assert whet.full() == whet.full()
    assert len({whet.full(), whet.full(), whet.probe(), whet.full(learning_rate=1.0)}) == 3
    assert repr(whet.full(learning_rate=3e-5)) == "full(learning_rate=3e-05)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name", Call("name")),
        ("name()", Call("name")),
        ("a(1, 'x', b=[2, -3.5], c=None)", Call("a", (1, "x"), {"b": (2, -3.5), "c": None})),
        ("a + b - c", Combined(Combined(Call("a"), "+", Call("b")), "-", Call("c"))),
        ("a - (b + c)", Combined(Call("a"), "-", Combined(Call("b"), "+", Call("c")))),
        ("-2", -2),
    ],
)
def test_the_grammar(text: str, value: Any) -> None:
    assert parse(text) == value


def test_what_the_grammar_does_not_know_is_named() -> None:
    with pytest.raises(UsageError, match=re.escape("cannot read 'b.c' in 'a(b.c)'")):
        parse("a(b.c)")
