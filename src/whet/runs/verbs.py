"""The verbs: what a person calls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whet.config import resolve
from whet.errors import SettingsError
from whet.plan.explain import Explained
from whet.report.terminal import Screen
from whet.runs.result import Run

if TYPE_CHECKING:
    from whet.models.given import GivenModule
    from whet.runs.probes import Probes


def fine_tune(
    data: Any, *, config: str | None = None, quiet: bool = False, tokenizer: Any = None, **options: Any
) -> Run:
    """Fine-tune a pretrained model on labelled rows: all weights, small learning rate, few epochs.

    `data` is a path (CSV, TSV, JSONL, Parquet), a pandas frame, a mapping of columns, or a list of rows. Options
    are those of `whet fine-tune --help`; `strategy` is a value such as `whet.full()` or its text. `model` may also be
    a torch module that is called with `input_ids` and `attention_mask` and gives logits (B x labels); `tokenizer`,
    one of transformers, then makes its inputs. The module is copied, never changed. The result lies in a new folder.
    Raises `whet.errors.WhetError`, whose text says what to do.
    """
    return _begin("fine_tune", data, config, quiet, tokenizer, options)


def train(data: Any, *, config: str | None = None, quiet: bool = False, tokenizer: Any = None, **options: Any) -> Run:
    """Train a new head on the frozen pretrained model: the body is computed once, the head in many epochs.

    Arguments and result are those of `fine_tune`.
    """
    return _begin("train", data, config, quiet, tokenizer, options)


def probes(
    data: Any,
    *,
    depths: Iterable[int] | int | str | None = None,
    poolings: Iterable[str] | str | None = None,
    penalties: int | str | Iterable[float] = 20,
    config: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> Probes:
    """Which depth, pooling and penalty make the best linear head on the frozen model: one pass over the rows, one
    batched fit of all heads.

    `depths` are blocks counted from the input (all), `poolings` of mean, cls, max and last (the model's own),
    `penalties` how many values of scikit-learn's C, spaced evenly in their logarithm from 0.00001 to 10, or the values.
    Options are those of `whet probe --help`. Writes nothing. Raises `whet.errors.WhetError`.
    """
    from whet.runs.probes_asked import asked

    if not isinstance(options.get("model", ""), str | Path):
        raise SettingsError("a module keeps its own head and depth: no probe of it could be trained; name a model")
    wanted = asked(options, depths, poolings, penalties, config=config)
    from whet.runs.probes import search

    return search(wanted, data, Screen(quiet=quiet).say)


def _begin(verb: str, data: Any, config: str | None, quiet: bool, tokenizer: Any, options: dict[str, Any]) -> Run:
    given, options = handed_over(options, tokenizer)
    resolved = resolve(verb, options, config=config)
    from whet.runs.seeds import begin_all

    screen = Screen(quiet=quiet)
    try:
        return Run(begin_all(resolved, data, screen, given), given)
    finally:
        screen.close()


def handed_over(options: dict[str, Any], tokenizer: Any) -> tuple[GivenModule | None, dict[str, Any]]:
    """The module among the options, if there is one, and the options with its name in its place."""
    model = options.get("model")
    if model is None or isinstance(model, str | Path):
        if tokenizer is not None:
            raise SettingsError("tokenizer goes with a module as model; a named model brings its own")
        return None, options
    from whet.models.given import GivenModule

    given = GivenModule.of(model, tokenizer)
    return given, {"head": "native", **options, "model": given.reference}


def resume(run: str | Path, *, quiet: bool = False, model: Any = None, tokenizer: Any = None) -> Run:
    """Go on with a run that was stopped or killed, to the same bits as if it had not been.

    A run of a module handed over in Python needs `model` and `tokenizer` again, as they were.
    """
    from whet.runs.seeds import go_on_all

    given, _ = handed_over({} if model is None else {"model": model}, tokenizer)
    screen = Screen(quiet=quiet)
    try:
        return Run(go_on_all(run, screen, given), given)
    finally:
        screen.close()


def explain(
    data: Any = None,
    *,
    verb: str = "fine_tune",
    config: str | None = None,
    tokenizer: Any = None,
    inputs: Any = None,
    **options: Any,
) -> Explained:
    """What `fine_tune` (or `verb="train"`) would do with the same arguments, and what it would cost.

    Trains nothing, and writes nothing but how fast the machine is, into the cache folder.

    Without data, give `model`: its groups, their parameters, and where it can be cut. Where `model` is a torch module,
    `inputs` is a batch for it: a tensor, or a mapping of its arguments; with data, `tokenizer` makes the batches.
    """
    from whet.runs.explained import explained, module_explained

    given, options = handed_over(options, tokenizer)
    if inputs is not None and (given is None or data is not None):
        why = "data and tokenizer make the batches" if given else "a model by name needs none"
        raise SettingsError(f"inputs are a batch for a torch module alone: {why}; leave inputs out")
    if given and data is None:
        return module_explained(given, inputs, resolve(verb, options, config=config))
    return explained(data, verb, options, given_as="call", config=config, given=given)
