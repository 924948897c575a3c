"""Adapters put into a model by peft: low-rank ones beside its linear layers, virtual tokens before its texts.

The model's own modules keep their names and places. peft's wrapper stands beside the model, not around it: it holds
the same modules, and saves and merges them. What peft cannot do with a model is found by trial, never by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.errors import ModelError, StrategyError, did_you_mean
from whet.models.cut import Inputs, in_eval_mode
from whet.models.heads import Head, Pooled, outputs_of
from whet.models.quantize import quantized
from whet.models.quiet import quiet_libraries
from whet.plan.edits import Adapter, LowRank, Prefix, Prompt

NAME = "default"
"""peft's name for the only adapter of a model."""
PADDED = 1e-3
"""Padding may change a text's outputs by so much of the largest of them."""
FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError)
"""How a model fails that was not made for an adapter; `NotImplementedError` is a RuntimeError."""


@dataclass(frozen=True)
class Adapted:
    """What stands beside a model that has an adapter: peft's wrapper of it, the edit that asked for it, and the names
    of the parameters that it added to the body, and of those of the head, which peft copies where it is not whet's."""

    peft: Any
    edit: Adapter
    added: tuple[str, ...]
    head: tuple[str, ...]


class Prompted(Pooled):
    """A pooled model with virtual tokens before every text; they are not pooled.

    peft's wrapper computes the states. It holds the body a second time, and so is kept out of the module tree.
    """

    def __init__(self, plain: Pooled, wrapper: Any) -> None:
        super().__init__(plain.body, plain.head, plain.pooling, plain.per)
        self.virtual: nn.Module = wrapper.prompt_encoder
        self._outside = (wrapper,)

    @property
    def wrapper(self) -> Any:
        return self._outside[0]

    def with_head(self, head: Head) -> Pooled:
        return Prompted(super().with_head(head), self.wrapper)

    def states(self, inputs: Inputs) -> Tensor:
        mask = inputs["attention_mask"]
        made: Tensor = self.wrapper(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        return made[:, -mask.shape[1] :]


def transformer_of(model: nn.Module) -> Any:
    """The model of transformers in a model."""
    return model.body if isinstance(model, Pooled) else model


def put_in(
    model: nn.Module, edit: Adapter, head: tuple[str, ...], seed: int, reference: str
) -> tuple[nn.Module, Adapted]:
    """Add an adapter to a model, whose `head` holds the parameters of these names. Returns the model to train, and what
    stands beside it.

    The adapter's weights come from `seed` alone. Raises `StrategyError` with peft's reason where it cannot.
    """
    known = {id(parameter) for parameter in model.parameters()}
    try:
        with seeded(seed), quiet_libraries():
            if isinstance(edit, LowRank):
                wrapper = low_rank(model, edit, head, reference)
            else:
                model = virtual_tokens(model, edit, reference)
                wrapper = model.wrapper
    except FAILURES as error:
        raise refusal(model, edit, reference, first_line(error)) from error
    if not isinstance(model, Pooled):
        now = copies(model)
        wrong = sorted(set(head) ^ now.keys())
        if wrong:
            raise ModelError(
                f"the head and what would be saved of it with the adapter differ in {', '.join(wrong[:3])}"
            )
        head = tuple(now[name] for name in head)
    fresh = [name for name, parameter in model.named_parameters() if id(parameter) not in known and name not in head]
    for parameter in model.parameters():  # peft has frozen what it found; here a phase says what moves
        if not quantized(parameter):
            parameter.requires_grad_(True)
    return model, Adapted(wrapper, edit, tuple(fresh), head)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, chance comes from `seed`; after it, from where it came before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def low_rank(model: nn.Module, edit: LowRank, head: tuple[str, ...], reference: str) -> Any:
    """Put low-rank adapters into the model's own modules. Returns peft's wrapper.

    Where the head is the model's own class's, each module of it is named to peft, which saves it with the adapter:
    taken from what was found new when the model was loaded, not from peft's table of usual names.
    """
    from peft import LoraConfig, get_peft_model

    pooled = isinstance(model, Pooled)
    layers = [name.removeprefix("body.") if pooled else name for name in layers_for(model, edit, head, reference)]
    config = LoraConfig(
        r=edit.rank,
        lora_alpha=edit.alpha,
        target_modules=layers,
        lora_dropout=edit.dropout,
        use_dora=edit.dora,
        use_rslora=edit.rank_stabilized,
        modules_to_save=None if pooled else modules_of(model, head),
        task_type="FEATURE_EXTRACTION" if pooled else None,
    )
    return get_peft_model(transformer_of(model), config)


def layers_for(model: nn.Module, edit: LowRank, head: tuple[str, ...], reference: str) -> list[str]:
    """The linear layers that get an adapter. Raises `StrategyError` where there are none."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    body = [name for name in linear if f"{name}.weight" not in head]
    inside = [name for name in body if not edit.within or any(f"{name}.".startswith(f"{w}.") for w in edit.within)]
    if not inside:
        where = f" in {', '.join(edit.within[:3])}" if body else ""
        raise StrategyError(f"lora: {reference} has no linear layers{where} to put low-rank adapters beside")
    chosen: set[str] = set()
    for target in edit.targets:
        fits = [name for name in inside if fnmatchcase(name, target) or f".{name}".endswith(f".{target}")]
        if not fits:
            hint = did_you_mean(target, {name.rpartition(".")[2] for name in inside})
            raise StrategyError(
                f"lora: {target!r} names none of the {len(inside)} linear layers of {reference}; {hint}"
            )
        chosen |= set(fits)
    return [name for name in inside if name in chosen or not edit.targets]


def modules_of(model: nn.Module, names: tuple[str, ...]) -> list[str]:
    """The outermost modules all of whose parameters are among these."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = {f"{name}.{own}" for own, _ in module.named_parameters()}
        if name and inside and inside <= set(names) and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def copies(model: nn.Module) -> dict[str, str]:
    """Parameters of modules that peft has copied, by the names they had: the copies are what trains and is saved."""
    part = f"modules_to_save.{NAME}."
    return {name.replace(part, "", 1): name for name, _ in model.named_parameters() if part in name}


def virtual_tokens(model: nn.Module, edit: Prefix | Prompt, reference: str) -> Prompted:
    """The model with virtual tokens before every text."""
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    if not isinstance(model, Pooled):
        raise refusal(
            model,
            edit,
            reference,
            "with a head of the model's own, which reads one place of a text, virtual tokens shift that place, and for "
            "padded texts the result is wrong without a word; take --head linear",
        )
    body: Any = model.body
    common = {
        "task_type": "FEATURE_EXTRACTION",
        "num_virtual_tokens": edit.tokens,
        "num_layers": body.config.num_hidden_layers,
        "num_attention_heads": body.config.num_attention_heads,
    }
    if isinstance(edit, Prompt):
        width = body.get_input_embeddings().embedding_dim
        config = PromptTuningConfig(**common, token_dim=width, prompt_tuning_init="SAMPLE_VOCAB")
    else:
        config = PrefixTuningConfig(**common, token_dim=body.config.hidden_size)
    return Prompted(model, get_peft_model(body, config))


def refusal(model: nn.Module, edit: Adapter, reference: str, reason: str) -> StrategyError:
    name = "lora" if isinstance(edit, LowRank) else edit.edit
    return StrategyError(f"{name} cannot be used with {reference} ({type(transformer_of(model)).__name__}): {reason}")


def first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def try_out(model: nn.Module, adapted: Adapted, inputs: Inputs, reference: str) -> None:
    """One trial with two texts of unlike length, padded on the right.

    Raises `StrategyError` where the model cannot compute them with the adapter, where the adapter takes no part in the
    outputs, or where padding changes them.
    """
    with in_eval_mode(model):
        try:
            outputs = outputs_of(model, inputs)
            outputs.square().sum().backward()
            alone = outputs_of(model, shortest(inputs)).detach()
        except FAILURES as error:
            raise refusal(model, adapted.edit, reference, f"a trial failed: {first_line(error)}") from error
    parameters = dict(model.named_parameters())
    reached = [name for name in adapted.added if (grad := parameters[name].grad) is not None and bool(grad.any())]
    model.zero_grad(set_to_none=True)
    if not reached:
        raise refusal(model, adapted.edit, reference, "in a trial, what it adds took no part in the outputs")
    row = int(inputs["attention_mask"].sum(1).argmin())
    off = (outputs[row].detach() - alone[0]).abs().max()
    if not off <= PADDED * outputs.abs().max():
        raise refusal(model, adapted.edit, reference, "in a trial, padding a text changed its outputs")


def shortest(inputs: Inputs) -> Inputs:
    """The row with the fewest tokens, without its padding."""
    lengths = inputs["attention_mask"].sum(1)
    row = int(lengths.argmin())
    return {name: value[row : row + 1, : int(lengths[row])] for name, value in inputs.items()}


def merge(adapted: Adapted) -> None:
    """Add low-rank adapters to the weights beside them: the model's modules are then as they were before `put_in`."""
    with quiet_libraries():
        adapted.peft.merge_and_unload()
