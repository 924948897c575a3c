"""What a strategy is: a function from a model's anatomy and a person's wishes to a plan, made a value.

A strategy is written as a function of (anatomy, defaults, its own arguments) and registered by `@strategy`,
which turns it into a factory: `full()` is a value that can be printed, compared and called.

Every factory also takes, by name: learning_rate, length ("3 epochs"), optimizer, weight_decay, schedule,
warmup, stop. What is given there wins over the options of the call, which win over the strategy's own choice.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

from pydantic import ValidationError

from whet.errors import StrategyError, UsageError, did_you_mean
from whet.plan.anatomy import Anatomy
from whet.plan.text import build, parse, show
from whet.plan.values import Defaults, Plan

P = ParamSpec("P")
COMMON = ("learning_rate", "length", "optimizer", "weight_decay", "schedule", "warmup", "stop")


@dataclass(frozen=True)
class Strategy:
    """A named way to fine-tune. Call it with an anatomy and defaults to get its plan; `str` gives its text form."""

    text: str
    plan: Callable[[Anatomy, Defaults], Plan]

    def __call__(self, anatomy: Anatomy, defaults: Defaults) -> Plan:
        return self.plan(anatomy, defaults)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strategy) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


STRATEGIES: dict[str, Callable[..., Strategy]] = {}


def strategy(make: Callable[Concatenate[Anatomy, Defaults, P], Plan]) -> Callable[..., Strategy]:
    """Register a function as a strategy's factory, under its own name."""
    name = make.__name__
    own = inspect.signature(make).parameters
    names = [key for key in own if key not in ("anatomy", "defaults")]

    @functools.wraps(make)
    def factory(*args: Any, **kwargs: Any) -> Strategy:
        unknown = [key for key in kwargs if key not in (*names, *COMMON)]
        if unknown:
            hint = did_you_mean(unknown[0], (*names, *COMMON))
            raise StrategyError(f"strategy {name} has no argument {unknown[0]!r}; {hint}")
        common = {key: kwargs[key] for key in COMMON if key in kwargs}
        mine = {key: value for key, value in kwargs.items() if key not in COMMON}
        try:
            inspect.signature(make).bind(None, None, *args, **mine)
            asked = Defaults.model_validate(common)
        except TypeError as error:
            raise StrategyError(f"strategy {name}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            why = first["msg"].removeprefix("Value error, ")
            raise StrategyError(f"strategy {name}, argument {first['loc'][0]}: {why}") from error

        def plan(anatomy: Anatomy, defaults: Defaults) -> Plan:
            wishes = defaults.model_copy(update={key: getattr(asked, key) for key in common})
            return make(anatomy, wishes, *args, **mine)

        return Strategy(show(name, args, kwargs) if args or kwargs else name, plan)

    STRATEGIES[name] = factory
    return factory


def parse_strategy(text: str) -> Strategy:
    """The strategy that a text names, e.g. `full` or `full(learning_rate=3e-5)`. Parsed, never evaluated."""
    try:
        made = build(parse(text), STRATEGIES, "strategy")
    except StrategyError:
        raise
    except UsageError as error:
        raise StrategyError(str(error)) from error
    if not isinstance(made, Strategy):
        raise StrategyError(f"{text!r} is no strategy; {did_you_mean(text, STRATEGIES)}")
    return made
