"""What is done with the weights after the last phase: edits of the plan that give the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from whet.engine.position import Best
from whet.engine.weights import Weights
from whet.plan.edits import Average, Interpolate

TENTHS = [number / 10 for number in range(11)]


class After(NamedTuple):
    """The run after its last phase, the weights that were kept in place. `ranked` are the best validations; `new` the
    parameters that did not come with the model; `score` gives the scores of the weights as they are, noted under a
    name; `lower` says whether a lower score is better."""

    weights: Weights
    ranked: list[Best]
    new: frozenset[str]
    score: Callable[[Best, str], Best]
    lower: bool


@singledispatch
def finished(edit: Any, kept: Best, after: After) -> tuple[Best, str]:
    """Apply an edit to the weights as they are; returns their scores, and what they are in words."""
    raise NotImplementedError(f"no way to finish with {edit!r}")


@finished.register
def _(edit: Average, kept: Best, after: After) -> tuple[Best, str]:
    chosen = after.ranked[: edit.best]
    after.weights.mean(chosen)
    steps = ", ".join(str(step) for step in sorted(one.step for one in chosen))
    how = f"mean of the weights of steps {steps}"
    return after.score(chosen[0], how), how


@finished.register
def _(edit: Interpolate, kept: Best, after: After) -> tuple[Best, str]:
    tuned = {name: value.clone() for name, value in after.weights.now().items()}
    started = {name: after.weights.in_use.of(name, value) for name, value in after.weights.fresh().items()}
    base = {name: started[name].to(value.device) for name, value in tuned.items() if name not in after.new}
    shares = TENTHS if edit.share is None else [edit.share]
    found: dict[float, Best] = {}
    for share in shares:
        after.weights.take(between(base, tuned, share))
        found[share] = after.score(kept, f"{share:g} of the way to the tuned weights")
    share = shares[0]
    for other in shares[1:]:
        share = other if found[other].beats(found[share], after.lower) else share
    after.weights.take(between(base, tuned, share))
    chosen = "" if edit.share is not None else f", the best of {len(shares)} shares on validation"
    return found[share], f"{share:g} of the way from the pretrained to the tuned weights{chosen}"


def between(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weights so much of the way; those without a base as tuned."""
    return {name: torch.lerp(base[name], value, share) if name in base else value for name, value in tuned.items()}
