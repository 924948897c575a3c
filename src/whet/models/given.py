"""A module handed over in Python in the place of a model's name: any classifier of texts built on torch.

It is called with `input_ids` and `attention_mask` and gives logits, or a result that has `logits`. It keeps its own
head. What it is made of is found by structure, like that of any other model; what is saved of it is its state dict.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from whet.errors import ModelError, SettingsError, StrategyError
from whet.models.dropout import key_dropouts
from whet.models.heads import Output, Per, outputs_of
from whet.models.load import (
    Built,
    Origin,
    build,
    change_dropout,
    head_facts,
    length_limit,
    load_tokenizer,
    ready_to_pad,
    save,
)
from whet.plan.edits import Adapter, Edit, NewHead, QuantizeBody

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, eq=False)
class GivenModule:
    """A module, never changed itself: each run works on a copy. Without a tokenizer it can only be explained."""

    module: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    licence: None = None

    @staticmethod
    def of(module: Any, tokenizer: Any) -> GivenModule:
        """Raises `SettingsError` where the two are not what they should be."""
        if not isinstance(module, nn.Module):
            kind = type(module).__name__
            raise SettingsError(f"model must be a name, a folder or a torch module; this is of type {kind}")
        if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise SettingsError(f"tokenizer must be one of transformers; this is of type {type(tokenizer).__name__}")
        return GivenModule(module, tokenizer)

    @property
    def reference(self) -> str:
        return f"module {type(self.module).__name__}"

    @cached_property
    def sha256(self) -> str:
        """Of its kind, and of the name, type, shape and bytes of every tensor of its state dict."""
        digest = hashlib.sha256(f"{type(self.module).__module__}.{type(self.module).__qualname__}".encode())
        for name, value in self.module.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def copy(self) -> nn.Module:
        """In fp32 and eval mode, with every parameter free to move."""
        return copy.deepcopy(self.module).float().requires_grad_(True).eval()


@load_tokenizer.register
def _(source: GivenModule) -> Any:
    if source.tokenizer is None:
        raise SettingsError("a module needs the tokenizer of its inputs beside it: model=module, tokenizer=tokenizer")
    return ready_to_pad(copy.deepcopy(source.tokenizer), source.reference)


@length_limit.register
def _(source: GivenModule, tokenizer: Any, virtual: int = 0) -> int:
    config = getattr(source.module, "config", None)
    positions = getattr(config, "max_position_embeddings", 100_000) - virtual
    return int(min(positions, tokenizer.model_max_length, 100_000))


@build.register
def _(source: GivenModule, edits: tuple[Edit, ...], outputs: int, seed: int, per: Per = "row") -> Built:
    head = next((edit for edit in edits if isinstance(edit, NewHead)), NewHead(kind="native"))
    if head.kind != "native" or head.depth is not None:
        raise ModelError(f"{source.reference} keeps its own head: leave out head, pooling and depth")
    refuse_adapters(edits, source.reference)
    model = source.copy()
    inputs = dict(load_tokenizer(source)(["two texts", "of unlike lengths"], padding=True, return_tensors="pt"))
    made = called(model, {name: inputs[name] for name in ("input_ids", "attention_mask")}, source.reference)
    needed = (2, outputs) if per == "row" else (2, inputs["input_ids"].shape[1], outputs)
    if tuple(made.shape) != needed:
        shape, right = (" x ".join(map(str, sizes)) for sizes in (made.shape, needed))
        raise ModelError(f"{source.reference} gives {shape} outputs for two rows; these rows need {right}")
    new = head_of(model, {name: inputs[name] for name in ("input_ids", "attention_mask")})
    change_dropout(model, edits)
    key = key_dropouts(model)
    loaded = sum(1 for _ in model.parameters()) - len(new)
    return Built(model.eval(), head, Origin(loaded, new, ()), key)


def refuse_adapters(edits: tuple[Edit, ...], reference: str) -> None:
    """Raises `StrategyError` for what is put in, saved and loaded through a model's name."""
    if any(isinstance(edit, Adapter | QuantizeBody) for edit in edits):
        raise StrategyError(
            f"{reference} was handed over in Python: it is saved as its state dict, which an adapter is no part of. "
            "Adapters and quantize_body need a model by name"
        )


def called(model: nn.Module, inputs: dict[str, Tensor], reference: str) -> Tensor:
    """The module's outputs. Raises `ModelError` where it cannot be called so."""
    try:
        with torch.no_grad():
            return outputs_of(model, inputs)
    except (TypeError, AttributeError) as error:
        names = ", ".join(inputs)
        raise ModelError(f"{reference} cannot be called with {names} and give logits: {error}") from error


def head_of(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[str, ...]:
    """The parameters of the layer that is called last: what a model ends in is taken for its head."""
    last = ""

    def note(name: str) -> Any:
        def hook(*_: Any) -> None:
            nonlocal last
            last = name

        return hook

    own = {name: module for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    handles = [module.register_forward_pre_hook(note(name)) for name, module in own.items()]
    try:
        with torch.no_grad():
            outputs_of(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(f"{last}.{name}" if last else name for name, _ in own[last].named_parameters()) if own else ()


@save.register
def _(
    source: GivenModule,
    built: Built,
    tokenizer: Any,
    output: Output,
    folder: Path,
    note: str,
    task: dict[str, Any],
) -> None:
    """The state dict, the tokenizer and the labels. The class of the module is the person's own."""
    save_model(built.model, str(folder / WEIGHTS))
    tokenizer.save_pretrained(folder)
    facts = head_facts(output, task) | {"module": source.reference}
    (folder / "head.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(note, encoding="utf-8")


def tuned(source: GivenModule, folder: Path) -> nn.Module:
    """A copy of the module with the weights that `save` wrote. Raises `ModelError` where they do not fit."""
    model = source.copy()
    try:
        load_model(model, str(folder / WEIGHTS))
    except RuntimeError as error:
        raise ModelError(f"the weights in {folder} are not those of {source.reference}: {error}") from error
    return model
