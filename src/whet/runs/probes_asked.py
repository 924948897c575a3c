"""What is asked of a search among probes, checked before anything heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from whet.config import Resolved, resolve
from whet.errors import SettingsError, did_you_mean
from whet.plan.edits import NewHead

OPTIONS = (
    "model", "text", "label", "text_b", "task", "valid", "test", "clean_labels", "class_weight", "metric", "precision",
    "max_length", "token_budget", "threads", "seed", "split_seed",
)  # fmt: skip
"""Options of Settings that mean something here. Of chance there is only the split and the interval of ece."""

INSTEAD = {
    "pooling": "give poolings, of which there may be several",
    "strategy": "what is probed is said by depths, poolings and penalties",
    "plan": "what is probed is said by depths, poolings and penalties",
    "head": "the heads of probes are linear",
    "quantize_body": "a body is rounded for adapters alone",
    "baselines": "probes are compared with each other",
    "forgetting": "the body does not move",
    "remember": "the body does not move",
    "out": "no run is kept: the result is printed, and the command that trains the best",
    "cache": "vectors are kept in memory only",
}
"""Why some of the others mean nothing; the rest is of training by steps."""

POOLINGS: tuple[str, ...] = next(
    get_args(kind) for kind in get_args(NewHead.model_fields["pooling"].annotation) if get_args(kind)
)
WEAKEST, STRONGEST = 10.0, 1e-5


@dataclass(frozen=True)
class ProbesAsked:
    """`depths` None: all of the model's; `poolings` None: the model's own; `penalties` are values of C."""

    resolved: Resolved
    depths: tuple[int, ...] | None
    poolings: tuple[str, ...] | None
    penalties: tuple[float, ...]


def asked(
    options: Mapping[str, Any],
    depths: Any = None,
    poolings: Any = None,
    penalties: Any = 20,
    *,
    given_as: str = "call",
    config: str | None = None,
) -> ProbesAsked:
    """Raises `SettingsError` that names all options that mean nothing here, or all values that are wrong."""
    resolved = resolve("train", options, given_as=given_as, config=config)
    given = {name: origin for name, origin in resolved.sources.items() if origin != "default"}
    problems = [
        (name, f"means nothing to probes: {INSTEAD.get(name, 'they are logistic regressions, fitted to the end')}")
        for name in given
        if name not in OPTIONS
    ]
    values: list[Any] = []
    for name, read, value in (
        ("depths", _depths, depths),
        ("poolings", _poolings, poolings),
        ("penalties", _penalties, penalties),
    ):
        try:
            values.append(read(value))
        except (ValueError, TypeError) as error:
            problems.append((f"{name} = {value}", str(error)))
    if problems:
        count = f"{len(problems)} options are" if len(problems) > 1 else "1 option is"
        width = max(len(name) for name, _ in problems)
        raise SettingsError(f"{count} wrong\n" + "\n".join(f"  {name:{width}}  {why}" for name, why in problems))
    return ProbesAsked(resolved, *values)


def listed(value: Any) -> list[Any]:
    """A text with commas, one value, or several, as a list without repetitions."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    return list(dict.fromkeys(value if isinstance(value, Iterable) else [value]))


def _depths(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    found = listed(value)
    if not found or any(isinstance(one, float | bool) or not str(one).isdigit() or int(one) < 1 for one in found):
        raise ValueError("must be numbers of blocks from the input, 1 or more: 2,4,6")
    return tuple(sorted({int(one) for one in found}))


def _poolings(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    found = listed(value)
    wrong = next((str(one) for one in found if one not in POOLINGS), None)
    if wrong is not None or not found:
        raise ValueError(f"must be of {', '.join(POOLINGS)}; {did_you_mean(wrong or '', POOLINGS)}")
    return tuple(found)


def _penalties(value: Any) -> tuple[float, ...]:
    """A whole number alone is how many, spaced evenly in their logarithm; else the values of C themselves."""
    expects = "must be how many, 1 to 1000, or values of C above 0: 0.01,0.1,1.0"
    if str(value).strip().isdigit():
        if not 1 <= int(value) <= 1000:
            raise ValueError(expects)
        return spaced(int(value))
    try:
        found = sorted({float(one) for one in listed(value)})
    except (TypeError, ValueError):
        raise ValueError(expects) from None
    if not found or any(not math.isfinite(one) or one <= 0 for one in found):
        raise ValueError(expects)
    return tuple(found)


def spaced(count: int) -> tuple[float, ...]:
    """So many values of C from the strongest penalty to the weakest; one alone is 1."""
    if count == 1:
        return (1.0,)
    step = math.log10(WEAKEST / STRONGEST) / (count - 1)
    return tuple(float(f"{STRONGEST * 10 ** (step * number):.4g}") for number in range(count))
