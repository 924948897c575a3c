"""The linear layers of a frozen body with rounded weights, by libraries that are installed for it alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from whet.errors import SettingsError, StrategyError
from whet.models.quiet import quiet_libraries

NEEDS = {"int8": "torchao", "nf4": "bitsandbytes"}


def quantize_body(part: Any, to: str, reference: str) -> None:
    """Round every `nn.Linear` of a transformers model but those of its head, in place; `to` is int8 or nf4.

    Products stay in floating point: they take less memory, not less time. Raises `SettingsError` where the library is
    not installed, `StrategyError` where there is nothing to round.
    """
    body = part.base_model
    if not any(type(module) is nn.Linear for module in body.modules()):
        raise StrategyError(
            f"quantize_body = {to}: {reference} has no layers of the kind that {NEEDS[to]} rounds (nn.Linear); "
            "leave quantize_body out"
        )
    try:
        with quiet_libraries(), torch.no_grad():
            to_int8(body) if to == "int8" else to_nf4(body)
    except ImportError as error:
        raise SettingsError(
            f"quantize_body = {to} needs {NEEDS[to]}, which is not installed here: pip install 'whet[{to}]' ({error})"
        ) from error


def to_int8(body: nn.Module) -> None:
    """One scale for each output of a layer, symmetric."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(body, Int8WeightOnlyConfig(set_inductor_config=False))


def to_nf4(body: nn.Module) -> None:
    """Four bits with a scale for each block of 64 weights, the scales themselves in eight bits."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in list(body.named_modules()):
        if type(layer) is nn.Linear:
            has_bias, weight = layer.bias is not None, layer.weight
            made = Linear4bit(
                layer.in_features, layer.out_features, has_bias, compute_dtype=torch.float32, quant_type="nf4"
            )
            made.weight = Params4bit(weight.data, requires_grad=False, quant_type="nf4")
            made.bias = layer.bias
            made.support_avx512bf16_for_cpu = False  # or a pass in eval mode packs the weights anew, rounded further
            owner, _, own = name.rpartition(".")
            setattr(body.get_submodule(owner), own, made.to(weight.device))


def quantized(parameter: nn.Parameter) -> bool:
    """Whether a weight is rounded: it is then of a type of its own, and takes no gradient."""
    return type(parameter) is not nn.Parameter


def storages(tensor: Any) -> list[torch.UntypedStorage]:
    """What a tensor lies in: of one that is made of others, what those lie in."""
    if hasattr(type(tensor), "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [storage for name in names for storage in storages(getattr(tensor, name))]
    return [tensor.untyped_storage()]


def bytes_of(parameter: nn.Parameter) -> int:
    """Bytes of a parameter, of a rounded one with its scales."""
    scales = getattr(getattr(parameter, "quant_state", None), "absmax", None)
    parts = [*storages(parameter), *([] if scales is None else storages(scales))]
    return sum(part.nbytes() for part in parts)


def numbers_in(parameter: nn.Parameter) -> int:
    """How many weights a parameter stands for; those of nf4 lie two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())
