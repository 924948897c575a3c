"""From checked rows and settings to everything that a run needs: model, anatomy, plan, tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from whet.config import Resolved, Settings
from whet.data.check import Rows
from whet.data.split import Dataset
from whet.data.store import TokenStore, tokenize
from whet.engine.gradient import Part
from whet.engine.precision import usable_threads
from whet.errors import ModelError, StrategyError
from whet.models.anatomy import anatomy_of
from whet.models.given import GivenModule
from whet.models.heads import outputs_of
from whet.models.load import Built, build, length_limit, load_tokenizer
from whet.models.reference import ModelFolder, find_model
from whet.models.temperature import last_layer
from whet.plan.anatomy import Anatomy
from whet.plan.edits import Edit
from whet.plan.minutes import share_minutes
from whet.plan.select import Head
from whet.plan.strategy import Strategy
from whet.plan.values import Plan
from whet.tasks.classification import Classification

Watch = Callable[[dict[str, Any]], None]

LONG = 256
"""Texts of more tokens than this go through fused attention; below, plain products are faster on a CPU and equal
up to rounding."""


@dataclass
class Assembled:
    """A model ready to train. `max_length` is where texts are cut, in tokens."""

    source: ModelFolder | GivenModule
    tokenizer: Any
    task: Classification
    built: Built
    anatomy: Anatomy
    plan: Plan
    max_length: int

    def tokens(self, rows: Rows, watch: Watch = lambda line: None) -> TokenStore:
        """All rows as tokens; `watch` is told of the progress."""
        return tokenize(rows, self.tokenizer, self.max_length, lambda done, of: watch({"tokenised": done, "of": of}))

    def part(self, rows: Rows, watch: Watch = lambda line: None) -> Part:
        return Part(self.tokens(rows, watch), self.task.targets(rows), rows.lines)

    def below_head(self) -> dict[str, Any]:
        """What the states that arrive at cuts depend on, beside weights, rows and machine."""
        head = self.built.head
        config = getattr(getattr(self.built.model, "body", self.built.model), "config", None)
        attention = getattr(config, "_attn_implementation", None)
        return {"depth": head.depth, "pooling": head.pooling, "attention": attention}

    def fresh(self, seed: int) -> dict[str, Tensor]:
        """The weights that training started with."""
        again = build(self.source, self.plan.edits, self.task.outputs, seed)
        return dict(again.model.named_parameters())

    def with_strategy(self, strategy: Strategy, settings: Settings) -> Assembled:
        """The same with the plan of another strategy; with a model of its own where that one changes it otherwise.

        Raises `WhetError` where the strategy is not for this model.
        """
        plan = share_minutes(strategy(self.anatomy, settings.defaults()), self.anatomy)
        if plan.edits == self.plan.edits:
            return replace(self, plan=plan)
        built, anatomy = _built(self.source, self.tokenizer, plan.edits, self.task.outputs, settings)
        return replace(self, plan=plan, built=built, anatomy=anatomy)


def assemble(
    resolved: Resolved, dataset: Dataset, plan: Plan | None = None, given: GivenModule | None = None
) -> Assembled:
    """Load the model (or take the one handed over), find its anatomy, and make the strategy's plan (or take `plan`).

    Raises `ModelError` and `StrategyError`.
    """
    settings = resolved.settings
    torch.set_num_threads(settings.threads or usable_threads())
    source = given or find_model(settings.model)
    tokenizer = load_tokenizer(source)
    task = Classification.of(dataset.train, dataset.labels, settings.class_weight, settings.label_smoothing)
    edits = plan.edits if plan else settings.defaults().edits
    built, anatomy = _built(source, tokenizer, edits, task.outputs, settings)
    if plan is None:
        plan = share_minutes(resolved.strategy(anatomy, settings.defaults()), anatomy)
        if plan.edits != edits:
            built, anatomy = _built(source, tokenizer, plan.edits, task.outputs, settings)
    if settings.calibrate:
        last_layer(built.model, task.outputs)
    if resolved.verb == "train":
        _refuse_moving_body(plan, anatomy, resolved)
    limit = length_limit(source, tokenizer)
    return Assembled(source, tokenizer, task, built, anatomy, plan, min(settings.max_length or limit, limit))


def _built(
    source: ModelFolder | GivenModule, tokenizer: Any, edits: tuple[Edit, ...], outputs: int, settings: Settings
) -> tuple[Built, Anatomy]:
    built = build(source, edits, outputs, settings.seed)
    if settings.gradient_checkpointing:
        body: Any = getattr(built.model, "body", built.model)
        if not hasattr(body, "activation_checkpointing_enable"):
            raise ModelError(f"{source.reference} is no model of transformers, so --gradient-checkpointing cannot work")
        body.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    encoded = tokenizer(["two texts", "of unlike lengths"], padding=True, return_tensors="pt")
    inputs = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    return built, anatomy_of(built.model, source.reference, inputs, outputs_of, built.origin.new)


def use_attention_for(model: nn.Module, longest: int) -> None:
    """Plain products for short rows, the fused kernels for long ones."""
    body: Any = getattr(model, "body", model)
    if not hasattr(body, "set_attn_implementation"):
        return
    body.set_attn_implementation("sdpa" if longest > LONG and getattr(body, "_supports_sdpa", False) else "eager")


def _refuse_moving_body(plan: Plan, anatomy: Anatomy, resolved: Resolved) -> None:
    head = Head().names(anatomy)
    for phase in plan.phases:
        if phase.train.on(anatomy) - head:
            raise StrategyError(
                f"train keeps the body frozen, but strategy {resolved.strategy} moves it in phase {phase.name!r}; "
                f"use fine-tune for it: whet fine-tune ... --strategy {resolved.strategy}"
            )
