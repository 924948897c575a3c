"""The verbs: what a person calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whet.config import resolve
from whet.plan.explain import Explained
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


def explain(data: Any = None, *, verb: str = "fine_tune", config: str | None = None, **options: Any) -> Explained:
    """What `fine_tune` (or `verb="train"`) would do with the same arguments: trains nothing, writes nothing.

    Without data, give `model`: its groups, their parameters, and where it can be cut.
    """
    from whet.runs.explained import explained

    return explained(data, verb, options, given_as="call", config=config)
