"""Finding a model's anatomy from its module tree and one traced pass: no table of model names.

The trunk is the one chain of like blocks in a `ModuleList` or `Sequential` that the rest hangs on. Where
there is none, the children stand in call order; a flat `Sequential` is divided after each pooling layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from whet.errors import ModelError
from whet.models.cut import in_eval_mode
from whet.models.quantize import numbers_in, quantized
from whet.plan.anatomy import HEAD, Anatomy, Group, Parameter

Inputs = dict[str, Tensor]


def anatomy_of(
    model: nn.Module,
    name: str,
    inputs: Inputs,
    forward: Callable[[nn.Module, Inputs], Tensor],
    new: Iterable[str],
    added: Iterable[str] = (),
) -> Anatomy:
    """The anatomy of `model`: `inputs` is a tiny batch for `forward`, `new` names the head's parameters, `added` those
    that edits have put into the body.

    Raises `ModelError` when the traced pass reaches no parameter.
    """
    order, used = _trace(model, inputs, forward)
    owners = _owners(model)
    head = set(new)
    pieces = [[block] for block in _trunk(model, order, head)] or _children(model, order, head)
    blocks = [piece[0] for piece in pieces]
    depth = _depths(model, order, blocks, head, owners)
    groups: list[list[Parameter]] = [[] for _ in range(len(blocks) + 2)]
    idle: list[Parameter] = []
    for own, parameter in model.named_parameters():
        value = Parameter(name=own, size=numbers_in(parameter), kind=_kind(model, own))
        (groups[depth[own]] if own in used else idle).append(value)
    if not any(groups):
        raise ModelError(f"{name}: a forward pass reaches none of its parameters")
    last = len(groups) - 1
    entry = _entry(model, order, {p.name for p in groups[last]})
    names = ["embeddings", *(f"block {number}" for number in range(len(blocks))), HEAD]
    kinds = ["embeddings", *["block"] * len(blocks), "head"]
    modules = [[""], *pieces, [entry]]
    found = tuple(
        Group(name=n, kind=k, entry=m[0], others=tuple(m[1:]), parameters=tuple(p))  # type: ignore[arg-type]
        for n, k, m, p in zip(names, kinds, modules, groups, strict=True)
        if p or k == "head"
    )
    config = getattr(model, "config", None) or getattr(getattr(model, "body", None), "config", None)
    return Anatomy(
        model=name,
        groups=found,
        hidden_size=getattr(config, "hidden_size", None),
        idle=tuple(idle),
        added=tuple(own for own in added if own in used),
    )


def _trace(
    model: nn.Module, inputs: Inputs, forward: Callable[[nn.Module, Inputs], Tensor]
) -> tuple[list[str], set[str]]:
    """Names of modules in the order of their first call, and the parameters that a gradient reaches (of those that take
    none, because they are rounded, the ones whose module is called): in eval mode, where nothing is dropped and no
    statistics move; the mode is put back."""
    order: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name))
        for name, module in model.named_modules()
    ]
    try:
        with in_eval_mode(model), torch.enable_grad():
            forward(model, inputs).float().square().sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    used = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None or (quantized(parameter) and name.rpartition(".")[0] in order)
    }
    model.zero_grad(set_to_none=True)
    return list(order), used


def _entry(model: nn.Module, order: list[str], names: set[str]) -> str:
    """The module that the computation with these parameters starts with: the first that is called of those which use
    them, or an outer one that holds no others. What an outer one computes before is no part of it."""
    called = set(order)
    users = {_nearest(name.rpartition(".")[0], called) for name in names}
    entry = min(users, key=order.index, default="")
    while entry and (outer := entry.rpartition(".")[0]) in called and outer:
        if not {f"{outer}.{own}" for own, _ in model.get_submodule(outer).named_parameters()} <= names:
            break
        entry = outer
    return entry


def _nearest(module: str, called: set[str]) -> str:
    """The module itself if it is called, else the innermost one around it that is."""
    while module and module not in called:
        module = module.rpartition(".")[0]
    return module


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Tensor identity to all the names it goes by: more than one where weights are tied."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    return owners


def _trunk(model: nn.Module, order: list[str], head: set[str]) -> list[str]:
    """Names of the blocks of the outermost chain of like blocks, when there is one that outweighs the others."""
    called = set(order)
    chains: list[list[str]] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        if any(_below(name, block) for chain in chains for block in chain):
            continue
        children = [f"{name}.{child}" if name else child for child, _ in module.named_children()]
        like = len({type(child) for child in module}) == 1 and all(any(True for _ in c.parameters()) for c in module)
        if like and all(child in called for child in children) and not any(_below(h, name) for h in head if name):
            chains.append(children)
    if not chains:
        return []
    sizes = [sum(_size(model, block) for block in chain) for chain in chains]
    best = max(range(len(chains)), key=sizes.__getitem__)
    return sorted(chains[best], key=order.index) if sizes[best] >= 0.8 * sum(sizes) else []


def _children(model: nn.Module, order: list[str], head: set[str]) -> list[list[str]]:
    """Without a trunk: the children of the innermost module that holds nearly all layers, in call order; only those
    made of several layers where there are such. What leads up to the first one with parts of several layers is the
    stem, and no block. A flat Sequential is divided into pieces that end in pooling.

    Layers are counted, not numbers: VGG's last two linear layers hold nine tenths of its numbers.
    """
    name, body = "", len(_layers(model, "", head))
    while len(heavy := [c for c in _named_children(model, name) if len(_layers(model, c, head)) >= 0.9 * body]) == 1:
        if _is_flat(model.get_submodule(heavy[0])):
            break
        name = heavy[0]
    held = {child for child in _named_children(model, name) if _size(model, child)}
    called = [o for o in order if o in held and not any(_below(h, o) for h in head)]
    chosen = [child for child in called if _is_several(model.get_submodule(child))] or called
    deep = [any(_is_several(part) for part in model.get_submodule(child).children()) for child in chosen]
    made = []
    for child in chosen[deep.index(True) if any(deep) else 0 :]:
        pieces = _pieces(model, _named_children(model, child)) if _is_flat(model.get_submodule(child)) else []
        made += pieces if len(pieces) > 1 else [[child]]
    return made


def _layers(model: nn.Module, name: str, head: set[str]) -> list[str]:
    """Modules in `name` with parameters of their own that are not the head's."""
    inside = [own for own, _ in model.get_submodule(name).named_parameters()]
    return list({n.rpartition(".")[0] for n in (f"{name}.{own}" if name else own for own in inside) if n not in head})


def _is_several(module: nn.Module) -> bool:
    """Made of several layers."""
    return sum(bool(list(layer.parameters(recurse=False))) for layer in module.modules()) > 1


def _named_children(model: nn.Module, name: str) -> list[str]:
    return [f"{name}.{child}" if name else child for child, _ in model.get_submodule(name).named_children()]


def _is_flat(module: nn.Module) -> bool:
    """A Sequential of single layers."""
    return isinstance(module, nn.Sequential) and not any(True for child in module for _ in child.children())


def _pieces(model: nn.Module, layers: list[str]) -> list[list[str]]:
    """The layers of a flat Sequential, divided after each pooling layer."""
    pieces: list[list[str]] = [[]]
    for layer in layers:
        pieces[-1].append(layer)
        if "Pool" in type(model.get_submodule(layer)).__name__:
            pieces.append([])
    return [piece for piece in pieces if any(_size(model, layer) for layer in piece)]


def _depths(
    model: nn.Module, order: list[str], blocks: list[str], head: set[str], owners: dict[int, list[str]]
) -> dict[str, int]:
    """Parameter name to group number: 0 embeddings, 1.. blocks, last the head.

    A tensor belongs to its lowest user. What is called after the last block belongs to that block; what is
    never called as a module but has a gradient belongs to the lowest group, where nothing can be cut below it.
    """
    calls = {name: position for position, name in enumerate(order)}
    starts = [calls[block] for block in blocks]

    def depth(name: str) -> int:
        if name in head:
            return len(blocks) + 1
        inside = next((number for number, block in enumerate(blocks) if _below(name, block)), None)
        if inside is not None:
            return inside + 1
        called = calls.get(name.rpartition(".")[0])
        return 0 if called is None else sum(start <= called for start in starts)

    every = {id(parameter): parameter for _, parameter in model.named_parameters()}
    return {owners[key][0]: min(depth(name) for name in owners[key]) for key in every}


def _below(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _size(model: nn.Module, name: str) -> int:
    return sum(parameter.numel() for parameter in model.get_submodule(name).parameters())


def _kind(model: nn.Module, name: str) -> Any:
    owner, _, own = name.rpartition(".")
    if "norm" in type(model.get_submodule(owner)).__name__.lower():
        return "norm"
    return "bias" if own.endswith("bias") else "weight"
