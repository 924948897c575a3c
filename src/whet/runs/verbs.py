"""The verbs: what a person calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whet.config import resolve
from whet.plan.explain import Explained
from whet.plan.explain import explain as facts
from whet.report.terminal import Screen
from whet.runs.result import Run


def fine_tune(data: Any, *, config: str | None = None, quiet: bool = False, **options: Any) -> Run:
    """Fine-tune a pretrained model on labelled rows: all weights, small learning rate, few epochs.

    `data` is a path (CSV, TSV, JSONL, Parquet), a pandas frame, a mapping of columns, or a list of rows. Options
    are those of `whet fine-tune --help`; `strategy` is a value such as `whet.full()` or its text. The result
    lies in a new folder. Raises `whet.errors.WhetError`, whose text says what to do.
    """
    return _begin("fine_tune", data, config, quiet, options)


def train(data: Any, *, config: str | None = None, quiet: bool = False, **options: Any) -> Run:
    """Train a new head on the frozen pretrained model: the body is computed once, the head in many epochs.

    Arguments and result are those of `fine_tune`.
    """
    return _begin("train", data, config, quiet, options)


def _begin(verb: str, data: Any, config: str | None, quiet: bool, options: dict[str, Any]) -> Run:
    resolved = resolve(verb, options, config=config)
    from whet.runs.execute import begin

    screen = Screen(quiet=quiet)
    try:
        return Run(begin(resolved, data, screen))
    finally:
        screen.close()


def resume(run: str | Path, *, quiet: bool = False) -> Run:
    """Go on with a run that was stopped or killed, to the same bits as if it had not been."""
    from whet.runs.execute import go_on

    screen = Screen(quiet=quiet)
    try:
        return Run(go_on(run, screen))
    finally:
        screen.close()


def explain(data: Any, *, verb: str = "fine_tune", config: str | None = None, **options: Any) -> Explained:
    """What `fine_tune` (or `verb="train"`) would do with the same arguments. Trains nothing, writes nothing."""
    return explained(data, verb, options, given_as="call", config=config)


def explained(data: Any, verb: str, options: dict[str, Any], *, given_as: str, config: str | None) -> Explained:
    resolved = resolve(verb, options, given_as=given_as, config=config)
    from whet.runs.assemble import assemble
    from whet.runs.execute import read_rows, row_counts

    dataset = read_rows(resolved.settings, data)
    parts = assemble(resolved, dataset)
    settings, sources = resolved.settings.model_dump(mode="json"), dict(resolved.sources)
    phase, name = parts.plan.phases[0], f"strategy {resolved.strategy}"
    found = {
        "text": (dataset.columns.text, "data"),
        "label": (dataset.columns.label, "data"),
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
        found[phase.length.unit] = (phase.length.amount, name)
    for option, (value, source) in found.items():
        if settings[option] is None and value is not None:
            settings[option], sources[option] = value, source
    return Explained(
        plan=parts.plan,
        phases=facts(parts.plan, parts.anatomy, len(dataset.train), resolved.settings.batch_size),
        settings=settings,
        sources=sources,
        groups={group.name: group.size for group in parts.anatomy.groups},
        rows=row_counts(dataset),
        notes=tuple(dataset.findings.notes),
    )
