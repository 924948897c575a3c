"""Frozen weights in the numbers that they are multiplied in, so that no step has to cast them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from whet.data.store import TokenStore
from whet.engine.forward import Forward
from whet.engine.precision import HALF
from whet.models.cut import in_eval_mode
from whet.models.quantize import quantized
from whet.plan.anatomy import Anatomy


@contextmanager
def cast_once(forward: Forward, anatomy: Anatomy, store: TokenStore) -> Iterator[None]:
    """Within, modules of the body that multiply by a frozen weight hold it in the half precision of the products.

    Tried on a few rows of `store`: where the cast weights give other bits, or an error, nothing is cast. The
    parameters themselves stay as they are, in fp32, for whoever holds them.
    """
    above = forward.boundary is not None and forward.boundary.cut.direct  # the body is not computed at all
    half = None if above else HALF.get(forward.precision)
    originals = _frozen(forward.model, anatomy) if half else []
    try:
        with torch.no_grad(), in_eval_mode(forward.model):
            few = np.arange(min(2, len(store)))
            before = forward(store, few) if originals else None
            for module, weight in originals:
                module.weight = nn.Parameter(weight.to(half), requires_grad=False)
            if before is not None and not _same(forward, store, few, before):
                _put_back(originals)
        yield
    finally:
        _put_back(originals)


def _same(forward: Forward, store: TokenStore, rows: np.ndarray, before: Tensor) -> bool:
    try:
        return torch.equal(forward(store, rows), before)
    except RuntimeError:  # a module that multiplies in fp32 whatever the others do
        return False


def _put_back(originals: list[tuple[nn.Module, nn.Parameter]]) -> None:
    for module, weight in originals:
        module.weight = weight


def _frozen(model: nn.Module, anatomy: Anatomy) -> list[tuple[nn.Module, nn.Parameter]]:
    """Modules of the body with a frozen weight of two dimensions or more that nothing else shares; not tables, in
    which rows are looked up, and not weights that are rounded already."""
    body = {parameter.name for group in anatomy.body for parameter in group.parameters}
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    found = []
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or f"{name}.weight" not in body or isinstance(module, nn.Embedding) or quantized(weight):
            continue
        if weight.dim() > 1 and weight.dtype is torch.float32 and not weight.requires_grad and uses[id(weight)] == 1:
            found.append((module, weight))
    return found
