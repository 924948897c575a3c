"""What would fit where a run needs more memory than is free: other options and other strategies, each priced alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from whet.engine.forward import Forward
from whet.errors import WhetError
from whet.plan.course import FP32
from whet.plan.price import Alternative, Price
from whet.plan.strategy import STRATEGIES, Strategy
from whet.runs.assemble import Assembled
from whet.runs.estimate import Estimator

SMALLEST = 64
"""Tokens at once below which nobody would want to go."""


def with_fitting(found: Price, estimator: Estimator, verb: str) -> Price:
    """The price, with what would fit if the run itself does not."""
    if found.fits:
        return found
    limit = found.held_mb + found.free_mb
    options = list(by_options(estimator, limit))
    strategies = by_strategies(estimator, limit) if verb == "fine_tune" else []
    return found.model_copy(update={"fitting": (*options, *told_apart(strategies))})


def told_apart(found: Iterable[Alternative]) -> list[Alternative]:
    """Those that need most first; of some that need the same, the first alone."""
    sizes = dict[float, Alternative]()
    for one in found:
        sizes.setdefault(one.memory_mb, one)
    return sorted(sizes.values(), key=lambda one: -one.memory_mb)


def by_options(estimator: Estimator, limit: float) -> Iterator[Alternative]:
    """The largest token budget that fits, gradient checkpointing, or, where neither does, both together."""
    budget = next(budgets(estimator, limit, {}), None)
    if budget:
        yield budget
    if estimator.settings.gradient_checkpointing or not checkpoints(estimator.parts):
        return
    asked = {"gradient_checkpointing": True}
    alone = Alternative(options="--gradient-checkpointing", memory_mb=memory_mb(estimator, asked))
    if alone.memory_mb <= limit:
        yield alone
    elif not budget:
        yield from (
            one.model_copy(update={"options": f"--gradient-checkpointing {one.options}"})
            for one in [next(budgets(estimator, limit, asked), None)]
            if one
        )


def budgets(estimator: Estimator, limit: float, changes: dict[str, Any]) -> Iterator[Alternative]:
    """Smaller token budgets that fit, the largest first."""
    tokens = estimator.settings.tokens_at_once // 2
    while tokens >= SMALLEST:
        found = memory_mb(estimator, {**changes, "token_budget": tokens})
        if found <= limit:
            yield Alternative(options=f"--token-budget {tokens}", memory_mb=found)
        tokens //= 2


def memory_mb(estimator: Estimator, changes: dict[str, Any]) -> float:
    return estimator.memory_mb(estimator.parts.plan, estimator.settings.model_copy(update=changes))


def checkpoints(parts: Assembled) -> bool:
    """Can the model recompute its activations?"""
    body = getattr(parts.built.model, "body", parts.built.model)
    return bool(getattr(body, "supports_gradient_checkpointing", False))


def by_strategies(estimator: Estimator, limit: float) -> Iterator[Alternative]:
    """`top` with as many blocks as fit, and every other strategy that fits as it stands."""
    for name, factory in STRATEGIES.items():
        counts = range(len(estimator.parts.anatomy.blocks) - 1, 0, -1) if name == "top" else [None]
        for strategy in (factory() if blocks is None else factory(blocks) for blocks in counts):
            found = peak_of(strategy, estimator)
            if found is not None and found <= limit:
                yield Alternative(options=f'--strategy "{strategy}"', memory_mb=found)
                break


def peak_of(strategy: Strategy, estimator: Estimator) -> float | None:
    """The memory of another strategy; None where it is not for this model, or needs one that cannot be loaded beside
    it."""
    old, settings = estimator.forward, estimator.settings
    try:
        edits = strategy(estimator.parts.anatomy, settings.defaults()).edits
        if edits != estimator.parts.plan.edits and 2 * FP32 * estimator.parts.anatomy.size > estimator.machine.free:
            return None
        parts = estimator.parts.with_strategy(strategy, settings)
    except WhetError:
        return None
    if parts.built is not estimator.parts.built:
        forward = Forward(parts.built.model, old.place, old.precision, old.token_budget)
        estimator = replace(estimator, parts=parts, forward=forward, memory=estimator.machine, states={})
    return estimator.memory_mb(parts.plan, settings)
