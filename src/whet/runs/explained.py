"""What would run, and what it would keep: all that is known before anything moves."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from whet.config import Resolved, Settings, resolve
from whet.data.check import Columns, Findings, Rows
from whet.data.split import Dataset
from whet.engine.capture import cache_folder, identity
from whet.engine.forward import Forward
from whet.engine.precision import choose_precision, processes
from whet.errors import SettingsError
from whet.models.anatomy import anatomy_of
from whet.models.cut import find_cut
from whet.models.given import GivenModule, called, head_of, refuse_adapters
from whet.models.heads import outputs_of
from whet.plan.explain import Explained, GroupFacts, PhaseFacts, picture
from whet.plan.explain import explain as facts
from whet.runs.assemble import Assembled, assemble, use_attention_for
from whet.runs.estimate import Estimator
from whet.runs.finish import row_counts
from whet.runs.fitting import with_fitting
from whet.runs.record import here
from whet.runs.rows import read_rows
from whet.tasks.registry import settled


def explained(
    data: Any,
    verb: str,
    options: dict[str, Any],
    *,
    given_as: str,
    config: str | None,
    given: GivenModule | None = None,
) -> Explained:
    """What a verb would do. Without data, what the model is made of."""
    resolved = resolve(verb, options, given_as=given_as, config=config)
    if data is None and resolved.sources["model"] == "default":
        raise SettingsError("give rows to explain a run, or --model M to see what a model is made of")
    dataset = no_rows() if data is None else read_rows(resolved.settings, data)
    parts = assemble(resolved, dataset, given=given)
    estimator = estimator_of(parts, dataset, resolved.settings)
    forward, store = estimator.forward, estimator.rows["train"].store
    groups = tuple(
        GroupFacts(name=g.name, parameters=g.size, cut=forward.find_cut(g.name, parts.anatomy, store) is not None)
        for g in parts.anatomy.groups
    )
    settings, sources = with_sources(settled(resolved, parts.task), dataset, parts)
    rows = len(store)
    phases = () if data is None else facts(parts.plan, parts.anatomy, rows, resolved.settings.batch_size)
    return Explained(
        plan=parts.plan,
        phases=tuple(with_capture(phase, estimator) for phase in phases),
        settings=settings,
        sources=sources,
        groups=groups,
        hidden_size=parts.anatomy.hidden_size,
        rows={} if data is None else row_counts(dataset),
        notes=(
            *dataset.findings.notes,
            *(f"left out {n}: {why}" for why, n in dataset.findings.dropped.items()),
            *(note for pool in parts.pools for note in pool.notes),
        ),
        picture=tuple(picture(parts.plan, parts.anatomy, -(-rows // resolved.settings.batch_size))),
        price=None if data is None else with_fitting(estimator.price(always=True), estimator, verb),
    )


def estimator_of(parts: Assembled, dataset: Dataset, settings: Settings) -> Estimator:
    """What prices the run that these settings ask for."""
    rows = {name: parts.part(getattr(dataset, name)) for name in ("train", "valid", "test")}
    use_attention_for(parts.built.model, max(int(part.store.lengths.max(initial=0)) for part in rows.values()))
    place = processes()
    forward = Forward(
        parts.built.model, place, choose_precision(settings.precision, place.device), settings.tokens_at_once
    )
    depends = identity(parts.source.sha256, here(settings) | parts.below_head())
    return Estimator(parts, rows, settings, forward, cache_folder(settings.cache), depends, parts.beside())


def module_explained(given: GivenModule, inputs: Any, resolved: Resolved) -> Explained:
    """What a module is made of, found with a batch of its inputs, and the plan that the strategy makes of it."""
    if isinstance(inputs, torch.Tensor):
        inputs = {next(iter(inspect.signature(given.module.forward).parameters)): inputs}
    if not isinstance(inputs, Mapping):
        raise SettingsError("give inputs, a batch for the module: a tensor, or a mapping of its arguments")
    model, batch = given.copy(), dict(inputs)
    called(model, batch, given.reference)
    anatomy = anatomy_of(model, given.reference, batch, outputs_of, head_of(model, batch))
    plan = resolved.strategy(anatomy, resolved.settings.defaults())
    refuse_adapters(plan.edits, given.reference)
    groups = tuple(
        GroupFacts(name=g.name, parameters=g.size, cut=find_cut(model, anatomy, g.name, batch) is not None)
        for g in anatomy.groups
    )
    return Explained(
        plan=plan,
        phases=(),
        settings=resolved.settings.model_dump(mode="json"),
        sources=resolved.sources,
        groups=groups,
        hidden_size=anatomy.hidden_size,
        rows={},
        notes=(),
        picture=tuple(picture(plan, anatomy)),
    )


def no_rows() -> Dataset:
    """Two made-up rows, for a model without data."""
    rows = Rows("no rows", ("one text", "another, longer text"), ("a", "b"), (1, 2))
    return Dataset(rows, rows, rows, ("a", "b"), Columns("text", "label"), Findings())


def with_capture(phase: PhaseFacts, estimator: Estimator) -> PhaseFacts:
    """The phase with the size of the states that it will keep, in MiB; 0 where the model runs whole."""
    state = estimator.state(phase.frozen_below) if phase.frozen_below else None
    stores = [estimator.rows[part].store for part in ("train", "valid")]
    stores += [one.part.store for one in estimator.beside]
    places = sum(int(store.starts[-1]) if state and state.padded else len(store) for store in stores)
    return phase.model_copy(update={"captured_mb": round(places * state.size / 2**20, 1) if state else 0.0})


def with_sources(resolved: Resolved, dataset: Dataset, parts: Assembled) -> tuple[dict[str, Any], dict[str, str]]:
    """Every option with its value, also those that data, model or strategy settle, and where each came from."""
    settings, sources = resolved.settings.model_dump(mode="json"), dict(resolved.sources)
    phase, name = parts.plan.phases[0], f"strategy {resolved.strategy}"
    found = {
        **{name: (column, "data") for name, column in dataset.columns.given().items()},
        "max_length": (parts.max_length, "the model"),
        "pooling": (parts.built.head.pooling, "the model"),
        "learning_rate": (phase.rate.base, name),
        "optimizer": (phase.optimizer.kind, name),
        "weight_decay": (phase.optimizer.weight_decay, name),
        "schedule": (phase.rate.schedule.kind, name),
        "warmup": (phase.rate.schedule.warmup.model_dump(exclude_none=True), name),
        "patience": (phase.stop and phase.stop.validations, name),
    }
    if resolved.settings.length() is None:
        found["minutes" if phase.length.unit == "min" else phase.length.unit] = (phase.length.amount, name)
    for option, (value, source) in found.items():
        if settings[option] is None and value is not None:
            settings[option], sources[option] = value, source
    return settings, sources
