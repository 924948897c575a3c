"""The values that say what a fine-tuning run does: a `Plan` of `Phase`s. Pure: no torch, no files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from whet.errors import LengthError, StrategyError
from whet.plan.base import Value
from whet.plan.edits import Average, Edit, Finish, Interpolate
from whet.plan.pulls import Pull
from whet.plan.replay import Replay
from whet.plan.schedules import SCHEDULES, AnyWarmup, Linear, OneSchedule
from whet.plan.select import AnySelect
from whet.plan.text import text_to


class Length(Value):
    """How long a phase is: a number with a unit. `Length.parse("3 epochs")`, `"500 steps"`, `"5 min"`."""

    amount: float = Field(gt=0)
    unit: Literal["epochs", "steps", "min"]

    @staticmethod
    def parse(text: str) -> Length:
        """Raises `LengthError` where the unit is missing or unknown, or the number is not above 0."""
        found = re.fullmatch(r"\s*([0-9.e+-]*[0-9.])\s*([a-z]*)\s*", str(text).lower())
        if not found:
            raise LengthError(f"{text!r} is no length; write for example '3 epochs', '500 steps' or '5 min'")
        number, unit = found[1], found[2]
        units = {"epoch": "epochs", "step": "steps", "min": "min", "minute": "min"}
        if unit.removesuffix("s") not in units:
            raise LengthError(f"{text!r}: {number} what? Write '{number} epochs', '{number} steps' or '{number} min'")
        try:
            return Length(amount=float(number), unit=units[unit.removesuffix("s")])  # type: ignore[arg-type]
        except ValueError as error:
            raise LengthError(f"{text!r}: the number of a length must be above 0") from error

    def steps(self, per_epoch: int) -> int:
        """Steps of a phase of this length, at least 1. Minutes become steps only when measured."""
        if self.unit == "min":
            raise LengthError("a length in minutes has no number of steps before it is measured")
        return max(1, round(self.amount * (per_epoch if self.unit == "epochs" else 1)))

    def __str__(self) -> str:
        unit = self.unit[:-1] if self.amount == 1 and self.unit != "min" else self.unit
        return f"{repr(self.amount).removesuffix('.0')} {unit}"


AnyLength = Annotated[
    Length, BeforeValidator(lambda v: Length.parse(v) if isinstance(v, str | int | float) else v), PlainSerializer(str)
]


class AdamW(Value):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)


class Adam(Value):
    """Adam (Kingma and Ba 2015); weight decay, if any, is an L2 term of the gradient."""

    kind: Literal["adam"] = "adam"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class SGD(Value):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)


class Adagrad(Value):
    """Adagrad (Duchi et al. 2011)."""

    kind: Literal["adagrad"] = "adagrad"
    eps: float = Field(1e-10, gt=0)
    initial: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)


OneOptimizer = AdamW | Adam | SGD | Adagrad
OPTIMIZERS: dict[str, type[OneOptimizer]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD, "adagrad": Adagrad}
AnyOptimizer = Annotated[OneOptimizer, Field(discriminator="kind"), BeforeValidator(text_to(OPTIMIZERS, "optimizer"))]
AnySchedule = Annotated[OneSchedule, Field(discriminator="kind"), BeforeValidator(text_to(SCHEDULES, "schedule"))]


class Rate(Value):
    """The learning rate of a phase: a base, a factor per group (1 where none is given), a schedule."""

    base: float = Field(gt=0)
    factors: Mapping[str, float] = Field(default_factory=dict)
    schedule: AnySchedule = Linear()

    def at(self, step: int, total: int, group: str) -> float:
        """The rate of a group at step `step` of `total`."""
        return self.base * self.factors.get(group, 1.0) * self.schedule.factor(step, total)


class Patience(Value):
    """Ends a phase after so many validations without a better score."""

    validations: int = Field(ge=1)


AnyPatience = Annotated[
    Patience, BeforeValidator(lambda v: Patience(validations=int(v)) if isinstance(v, str | int) else v)
]
"""Also given as the bare number of validations."""


class Phase(Value):
    """A stretch of training in which one selection of parameters moves. `pulls` draw it towards the pretrained model;
    rows of `replay` stand in its batches beside the task's own."""

    name: str
    train: AnySelect
    length: AnyLength
    rate: Rate
    optimizer: AnyOptimizer = AdamW()
    pulls: tuple[Pull, ...] = ()
    replay: tuple[Replay, ...] = ()
    stop: Patience | None = None

    def rows_per_step(self, batch_size: int) -> tuple[int, ...]:
        """Of a batch, the rows of the task itself, then those of each replay, at least one each.

        Raises `StrategyError` where the batch has no room for that.
        """
        others = [max(1, round(one.share * batch_size)) for one in self.replay]
        if sum(others) >= batch_size:
            raise StrategyError(f"a batch of {batch_size} has no room for replay beside the task; raise --batch-size")
        return (batch_size - sum(others), *others)


class Plan(Value):
    """What is changed in the model before training, what moves phase by phase, what is done with the result."""

    edits: tuple[Edit, ...] = ()
    phases: tuple[Phase, ...] = Field(min_length=1)
    finish: tuple[Finish, ...] = ()

    @property
    def blends(self) -> list[Average | Interpolate]:
        """What of `finish` makes new weights of those there were; merging, which changes the model, comes after it."""
        return [edit for edit in self.finish if isinstance(edit, Average | Interpolate)]


class Defaults(Value):
    """What the person asked for, where they asked: `None` leaves the choice to the strategy.

    A strategy makes its phases with `phase`, giving the values that it stands for; what was asked wins.
    """

    learning_rate: float | None = Field(None, gt=0)
    length: AnyLength | None = None
    optimizer: AnyOptimizer | None = None
    weight_decay: float | None = Field(None, ge=0)
    schedule: AnySchedule | None = None
    warmup: AnyWarmup | None = None
    stop: AnyPatience | None = None
    edits: tuple[Edit, ...] = ()

    def phase(
        self,
        name: str,
        train: AnySelect,
        *,
        learning_rate: float,
        length: Length,
        optimizer: AnyOptimizer,
        schedule: AnySchedule,
        stop: Patience | None = None,
        factors: Mapping[str, float] | None = None,
    ) -> Phase:
        """A phase with what was asked for, and the given values elsewhere."""
        chosen, curve = self.optimizer or optimizer, self.schedule or schedule
        if self.weight_decay is not None:
            chosen = chosen.model_copy(update={"weight_decay": self.weight_decay})
        if self.warmup is not None:
            curve = curve.model_copy(update={"warmup": self.warmup})
        return Phase(
            name=name,
            train=train,
            length=self.length or length,
            rate=Rate(base=self.learning_rate or learning_rate, factors=factors or {}, schedule=curve),
            optimizer=chosen,
            stop=self.stop or stop,
        )
