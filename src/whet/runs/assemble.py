"""From checked rows and settings to everything that a run needs: model, anatomy, plan, tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from whet.config import Resolved, Settings
from whet.data.check import Rows
from whet.data.split import Dataset
from whet.data.store import Encoder, Part, TokenStore
from whet.engine.job import Beside
from whet.engine.precision import usable_threads
from whet.errors import ModelError, StrategyError
from whet.models.adapters import try_out
from whet.models.anatomy import anatomy_of
from whet.models.dropout import find_shared
from whet.models.given import GivenModule
from whet.models.heads import outputs_of
from whet.models.kept import build_kept
from whet.models.load import Built, build, length_limit, load_tokenizer, tells_segments
from whet.models.others import Other, add_heads, with_heads
from whet.models.reference import ModelFolder, find_model
from whet.models.temperature import last_layer
from whet.plan.adapting import check_edits, check_moves
from whet.plan.anatomy import Anatomy
from whet.plan.edits import Edit, LowRank, NewHead, Prefix, Prompt, QuantizeBody
from whet.plan.minutes import share_minutes
from whet.plan.select import Head
from whet.plan.values import Plan
from whet.runs.replay import Pool, beside, located, own_labels, pools
from whet.tasks.registry import TASKS
from whet.tasks.task import Task

Watch = Callable[[dict[str, Any]], None]

LONG = 256
"""Texts of more tokens than this go through fused attention; below, plain products are faster on a CPU and equal
up to rounding."""


@dataclass
class Assembled:
    """A model ready to train. `max_length` is where texts are cut, in tokens; `pools` are the rows that the plan
    replays, `others` the further heads that those need; `seed` started all new weights."""

    source: ModelFolder | GivenModule
    tokenizer: Any
    task: Task
    built: Built
    anatomy: Anatomy
    plan: Plan
    max_length: int
    pools: tuple[Pool, ...]
    others: tuple[Other, ...]
    seed: int

    def encoder(self, watch: Watch = lambda line: None) -> Encoder:
        """What makes tokens of texts; `watch` is told of the progress."""
        segments = not isinstance(self.source, GivenModule) and tells_segments(self.built.model, self.tokenizer)
        told = lambda done, of: watch({"tokenised": done, "of": of})  # noqa: E731
        return Encoder(self.tokenizer, self.max_length, segments, told)

    def tokens(self, rows: Rows, watch: Watch = lambda line: None) -> TokenStore:
        """All rows as tokens."""
        return self.part(rows, watch).store

    def part(self, rows: Rows, watch: Watch = lambda line: None, task: Task | None = None) -> Part:
        """Rows for the engine, with the targets of a task: the run's own where none is given."""
        return (task or self.task).encode(rows, self.encoder(watch))

    def beside(self, watch: Watch = lambda line: None) -> tuple[Beside, ...]:
        """The rows that the plan replays, for the engine."""
        return beside(self.pools, self.built, self.others, lambda rows, task: self.part(rows, watch, task))

    def below_head(self) -> dict[str, Any]:
        """What the states that arrive at cuts depend on, beside weights, rows and machine."""
        head = self.built.head
        config = getattr(getattr(self.built.model, "body", self.built.model), "config", None)
        attention = getattr(config, "_attn_implementation", None)
        return {"depth": head.depth, "pooling": head.pooling, "attention": attention, "edits": self.changes()}

    def changes(self) -> list[Any]:
        """The edits by which the body computes something else before anything has moved, and the seed that they start
        from. Low-rank adapters start as zero, those of DoRA up to rounding."""
        edits = [
            edit
            for edit in self.plan.edits
            if isinstance(edit, QuantizeBody | Prefix | Prompt) or (isinstance(edit, LowRank) and edit.dora)
        ]
        return [[edit.model_dump(mode="json") for edit in edits], self.seed] if edits else []

    def fresh(self) -> dict[str, Tensor]:
        """The weights that training started with."""
        again = built_for(self.source, self.plan.edits, self.task, self.seed)
        self.task.fitted_to(again.model, bool(again.kept))
        add_heads(again, self.source, own_labels(self.pools), self.seed)
        return dict(again.model.named_parameters())


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
    task = TASKS[dataset.reading.name].of(dataset.train, dataset.labels, settings)
    edits = plan.edits if plan else settings.defaults().edits
    built, anatomy, others = _built(source, tokenizer, edits, task, settings)
    asked = plan
    if plan is None:
        plan = located(resolved.strategy(anatomy, settings.defaults()))
        check_edits(plan)
    limit = length_limit(source, tokenizer, sum(e.tokens for e in plan.edits if isinstance(e, Prefix | Prompt)))
    found = pools(plan, dataset, task, settings)
    if plan.edits != edits or own_labels(found):
        built, anatomy, others = _built(source, tokenizer, plan.edits, task, settings, own_labels(found))
    task = task.fitted_to(built.model, bool(built.kept))
    found = tuple(pool if pool.head is not None else replace(pool, task=task) for pool in found)
    if asked is None:
        if plan.edits != edits:
            # Once more, now that it is known what the edits add: selections and rates of groups hang on it.
            again = located(resolved.strategy(anatomy, settings.defaults()))
            plan = again.model_copy(update={"edits": plan.edits})
        plan = share_minutes(plan, anatomy)
    check_moves(plan, anatomy)
    if settings.calibrate:
        last_layer(built.model, task.outputs)
    if resolved.verb == "train":
        _refuse_moving_body(plan, anatomy, resolved)
    longest = min(settings.max_length or limit, limit)
    return Assembled(source, tokenizer, task, built, anatomy, plan, longest, found, others, settings.seed)


def built_for(source: ModelFolder | GivenModule, edits: tuple[Edit, ...], task: Task, seed: int) -> Built:
    """The model as training starts with it: with a new head, or with its own where an edit keeps that."""
    if any(isinstance(edit, NewHead) and edit.kind == "kept" for edit in edits):
        return build_kept(source, edits, task.output, seed)
    return build(source, edits, task.outputs, seed, task.output.per)


def _built(
    source: ModelFolder | GivenModule,
    tokenizer: Any,
    edits: tuple[Edit, ...],
    task: Task,
    settings: Settings,
    further: Sequence[tuple[str, ...]] = (),
) -> tuple[Built, Anatomy, tuple[Other, ...]]:
    """The model, its anatomy, and a further head for each set of labels in `further`."""
    built = built_for(source, edits, task, settings.seed)
    others = add_heads(built, source, further, settings.seed)
    if settings.gradient_checkpointing:
        if any(isinstance(edit, Prefix) for edit in edits):
            raise StrategyError("prefix hands its keys and values on as a cache, which --gradient-checkpointing drops")
        body: Any = getattr(built.model, "body", built.model)
        if not hasattr(body, "activation_checkpointing_enable"):
            raise ModelError(f"{source.reference} is no model of transformers, so --gradient-checkpointing cannot work")
        body.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    encoded = tokenizer(["two texts", "of unlike lengths"], padding=True, return_tensors="pt")
    inputs = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    if built.adapted:
        try_out(built.model, built.adapted, inputs, source.reference)
    with torch.no_grad():
        find_shared(built.model, lambda rows: outputs_of(built.model, {k: v[:rows] for k, v in inputs.items()}))
    added = built.adapted.added if built.adapted else ()
    head = [name for name in (*built.origin.new, *built.kept) if name not in added]
    anatomy = anatomy_of(built.model, source.reference, inputs, outputs_of, head, added)
    return built, with_heads(anatomy, others), others


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
