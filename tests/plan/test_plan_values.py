"""Values survive writing and reading, as JSON, as YAML and as texts; wrong ones are refused in words."""

from __future__ import annotations

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from whet.errors import LengthError, UsageError
from whet.plan.edits import Average, LowRank, Merge, NewHead, Prefix, Prompt, QuantizeBody, SetDropout
from whet.plan.schedules import Constant, Cosine, Linear, SlantedTriangular, Warmup
from whet.plan.select import Adapters, Everything, Groups, Head, Joined, Kinds, Match, Select, Top, Without
from whet.plan.values import SGD, Adagrad, Adam, AdamW, Defaults, Length, Patience, Phase, Plan, Rate

above_0 = st.floats(1e-12, 1e12)
share = st.floats(0, 0.999)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12)

lengths = st.builds(Length, amount=above_0, unit=st.sampled_from(["epochs", "steps", "min"]))
warmups = st.builds(Warmup, share=share) | st.builds(Warmup, steps=st.integers(0, 10**6))
schedules = st.one_of(
    st.builds(Linear, warmup=warmups),
    st.builds(Cosine, warmup=warmups),
    st.builds(Constant, warmup=warmups),
    st.builds(SlantedTriangular, warmup=warmups, cut=st.floats(0.01, 0.99), ratio=st.floats(1.01, 1000)),
)
optimizers = st.one_of(
    st.builds(AdamW, beta1=share, weight_decay=above_0),
    st.builds(Adam, beta2=share, eps=above_0),
    st.builds(SGD, momentum=share, nesterov=st.booleans()),
    st.builds(Adagrad, initial=above_0),
)
kinds_of_parameters = st.sampled_from(["weight", "bias", "norm"])
selections = st.recursive(
    st.one_of(
        st.builds(Everything),
        st.builds(Head),
        st.builds(Adapters),
        st.builds(Top, count=st.integers(0, 99)),
        st.builds(Groups, chosen=st.lists(words, min_size=1, max_size=3).map(tuple)),
        st.builds(Match, patterns=st.lists(words, min_size=1, max_size=3).map(tuple)),
        st.builds(Kinds, chosen=st.lists(kinds_of_parameters, min_size=1, max_size=3).map(tuple)),
    ),
    lambda inner: st.builds(Joined, left=inner, right=inner) | st.builds(Without, left=inner, right=inner),
    max_leaves=6,
)
rates = st.builds(Rate, base=above_0, factors=st.dictionaries(words, above_0, max_size=3), schedule=schedules)
stops = st.none() | st.builds(Patience, validations=st.integers(1, 99))
phases = st.builds(Phase, name=words, train=selections, length=lengths, rate=rates, optimizer=optimizers, stop=stops)
heads = st.builds(
    NewHead,
    kind=st.sampled_from(["pooled", "native"]),
    pooling=st.sampled_from([None, "mean", "cls", "max", "last"]),
    hidden=st.lists(st.integers(1, 4096), max_size=2).map(tuple),
    dropout=share,
)
names = st.lists(words, max_size=2).map(tuple)
edits = st.one_of(
    heads,
    st.builds(SetDropout, share=share),
    st.builds(QuantizeBody, to=st.sampled_from(["int8", "nf4"])),
    st.builds(LowRank, rank=st.integers(1, 99), alpha=above_0, targets=names, within=names, dora=st.booleans()),
    st.builds(Prefix, tokens=st.integers(1, 99)) | st.builds(Prompt, tokens=st.integers(1, 99)),
)
plans = st.builds(
    Plan,
    edits=st.lists(edits, max_size=3).map(tuple),
    phases=st.lists(phases, min_size=1, max_size=2).map(tuple),
    finish=st.lists(st.builds(Average, best=st.integers(2, 9)) | st.builds(Merge), max_size=2).map(tuple),
)

fewer = settings(deadline=None, max_examples=60)


@fewer
@given(lengths)
def test_a_length_is_read_back_from_its_text(length: Length) -> None:
    assert Length.parse(str(length)) == length


@fewer
@given(selections)
def test_a_selection_is_read_back_from_its_text(selection: Select) -> None:
    assert Select.parse(str(selection)) == selection


@fewer
@given(rates)
def test_a_rate_survives_json(rate: Rate) -> None:
    assert Rate.model_validate_json(rate.model_dump_json()) == rate


@fewer
@given(plans)
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@fewer
@given(plans)
def test_a_plan_survives_yaml(plan: Plan) -> None:
    text = yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    assert Plan.model_validate(yaml.safe_load(text)) == plan


def test_a_selection_keeps_its_order_of_joining() -> None:
    """a + (b - c) is not (a + b) - c: a plan read back must not move something else."""
    kept = Joined(left=Head(), right=Without(left=Everything(), right=Head()))
    lost = Without(left=Joined(left=Head(), right=Everything()), right=Head())
    assert str(kept) != str(lost)
    assert Select.parse(str(kept)) == kept


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("3 epochs", 3, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("500steps", 500, "steps"),
        ("1e3 steps", 1000, "steps"),
        ("1 Step", 1, "steps"),
        (" 5 min ", 5, "min"),
        ("2 minutes", 2, "min"),
    ],
)
def test_lengths_that_are_understood(text: str, amount: float, unit: str) -> None:
    assert Length.parse(text) == Length(amount=amount, unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3", "3 what? Write '3 epochs', '3 steps' or '3 min'"),
        ("3 days", "3 what?"),
        ("10 stepps", "10 what?"),
        ("", "write for example '3 epochs'"),
        ("epochs", "write for example '3 epochs'"),
        ("inf epochs", "write for example '3 epochs'"),
        ("0 epochs", "must be above 0"),
        ("-3 epochs", "must be above 0"),
        ("1.2.3 epochs", "must be above 0"),
        ("1e999 steps", "must be above 0"),
        (". steps", "must be above 0"),
    ],
)
def test_lengths_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(LengthError) as caught:
        Length.parse(text)
    assert repr(text) in str(caught.value)
    assert says in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from(string.digits + ".e+-stepsmin "), max_size=12))
def test_any_text_is_a_length_or_a_length_error(text: str) -> None:
    try:
        length = Length.parse(text)
    except LengthError:
        return
    assert length.amount > 0


@pytest.mark.parametrize(
    ("length", "per_epoch", "steps"),
    [("3 epochs", 10, 30), ("0.5 epochs", 7, 4), ("0.001 epochs", 10, 1), ("500 steps", 10, 500)],
)
def test_steps_of_a_length(length: str, per_epoch: int, steps: int) -> None:
    assert Length.parse(length).steps(per_epoch) == steps


def test_minutes_have_no_steps_before_they_are_measured() -> None:
    with pytest.raises(LengthError, match="measured"):
        Length.parse("5 min").steps(10)


def phase_as_written(**changes: Any) -> dict[str, Any]:
    return {"name": "p", "train": "head()", "length": "1 epoch", "rate": {"base": 1e-3}, **changes}


def test_a_phase_can_be_written_by_hand() -> None:
    written = phase_as_written(train="head() + match('*.bias')", optimizer="sgd(momentum=0.5)")
    phase = Phase.model_validate(written)
    assert phase.train == Joined(left=Head(), right=Match(patterns=("*.bias",)))
    assert phase.optimizer == SGD(momentum=0.5)
    assert phase.length == Length(amount=1, unit="epochs")


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": "hed()"},
        {"train": "top(-1)"},
        {"train": "groups()"},
        {"train": "head() + 3"},
        {"train": "3"},
        {"length": "3"},
        {"length": 3},
        {"optimizer": "sgd(momentum=2)"},
        {"optimizer": "sgdd"},
        {"rate": {"base": 0}},
        {"rate": {"base": float("nan")}},
        {"rate": {"base": float("inf")}},
        {"stop": {"validations": 0}},
        {"rat": {"base": 1}},
    ],
    ids=str,
)
def test_a_wrong_phase_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, UsageError)):
        Phase.model_validate(phase_as_written(**wrong))


def test_a_plan_needs_a_phase() -> None:
    with pytest.raises(ValidationError):
        Plan(phases=())


def test_values_do_not_change() -> None:
    rate = Rate(base=1e-3)
    with pytest.raises(ValidationError):
        rate.base = 1.0  # type: ignore[misc]


def test_what_was_asked_wins_over_the_strategy() -> None:
    own: dict[str, Any] = {
        "learning_rate": 1e-2,
        "length": Length(amount=3, unit="epochs"),
        "optimizer": AdamW(),
        "schedule": Linear(warmup=Warmup(share=0.06)),
        "stop": Patience(validations=4),
    }
    kept = Defaults().phase("p", Head(), **own)
    assert (kept.rate.base, kept.length, kept.optimizer) == (1e-2, own["length"], AdamW())
    asked = Defaults(
        learning_rate=1e-5,
        length=Length(amount=9, unit="steps"),
        weight_decay=0.3,
        schedule=Cosine(),
        warmup=Warmup(steps=7),
        stop=Patience(validations=1),
    )
    phase = asked.phase("p", Head(), **own)
    assert phase.rate.base == 1e-5
    assert phase.length == Length(amount=9, unit="steps")
    assert phase.optimizer == AdamW(weight_decay=0.3)
    assert phase.rate.schedule == Cosine(warmup=Warmup(steps=7))
    assert phase.stop == Patience(validations=1)
