"""Cutting a model at a group: below it nothing moves, so what arrives there is computed once and put back in.

No code per architecture. Capture: a hook before the group's entry module takes the state and ends the pass.
Above: the blocks below hand their input on, and a hook before the entry puts the stored state in; or, where the
entry alone gives the model's output, it is called on the state. Which of these works is found by trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from whet.models.heads import outputs_of
from whet.plan.anatomy import Anatomy, Group

Inputs = dict[str, Tensor]


class _Reached(Exception):
    """Ends a pass at the last boundary that is wanted."""


class Arrived(NamedTuple):
    """A state that came to a module, rows first, and the seconds since the pass began."""

    state: Tensor
    seconds: float


def states_at(model: nn.Module, entries: Sequence[str], inputs: Inputs) -> list[Arrived]:
    """The states that arrive at some modules in one pass; the pass ends when all have been met."""
    found: dict[str, Arrived] = {}
    begun = perf_counter()

    def take(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name not in found:  # a copy: what comes after may work in place
                found[name] = Arrived(first_tensor(args, kwargs).clone(), perf_counter() - begun)
            if len(found) == len(set(entries)):
                raise _Reached

        return hook

    handles = [model.get_submodule(e).register_forward_pre_hook(take(e), with_kwargs=True) for e in set(entries)]
    try:
        outputs_of(model, inputs)
    except _Reached:
        return [found[entry] for entry in entries]
    finally:
        for handle in handles:
            handle.remove()
    raise RuntimeError(f"the forward pass never came to {', '.join(set(entries) - found.keys())}")


@dataclass
class Cut:
    """A model divided before the module `entry`. `direct`: the entry's output is the model's.

    `below` are the modules that are skipped, each with the number of further parts that its output has
    (None where the output is the state alone). `layout` are the state's dimensions as they lie in memory, the one
    with the longest strides first: sums of the same numbers in another layout can differ in their last bits.
    """

    model: nn.Module
    group: str
    entry: str
    below: dict[str, int | None] = field(default_factory=dict)
    direct: bool = False
    layout: tuple[int, ...] = ()

    def capture(self, inputs: Inputs) -> Tensor:
        """The state that arrives at the entry, rows first. The pass ends there."""
        return states_at(self.model, [self.entry], inputs)[0].state

    def above(self, inputs: Inputs, state: Tensor) -> Tensor:
        """The model's outputs from a stored state, whatever its layout; what lies below the entry is not computed."""
        module = self.model.get_submodule(self.entry)
        state = _laid_out(state, self.layout)
        if self.direct:
            made = module(state)
            return made.float()

        def put(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return _with_state(args, kwargs, state)

        handle = module.register_forward_pre_hook(put, with_kwargs=True)
        try:
            with self._passing():
                return outputs_of(self.model, inputs)
        finally:
            handle.remove()

    @contextmanager
    def _passing(self) -> Iterator[None]:
        blocks = {name: self.model.get_submodule(name) for name in self.below}
        try:
            for name, block in blocks.items():
                block.forward = _hand_on(self.below[name])
            yield
        finally:
            for block in blocks.values():
                vars(block).pop("forward", None)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode; after it, each in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def find_cut(model: nn.Module, anatomy: Anatomy, group: str, inputs: Inputs) -> Cut | None:
    """The cut before a group, or None where the outputs from the stored state are not bit for bit the model's own.

    Tried in fp32 on `inputs`, one real batch, with the model in eval mode; its mode is put back.
    """
    with in_eval_mode(model), torch.no_grad():
        return _tried(model, anatomy, group, inputs)


def _tried(model: nn.Module, anatomy: Anatomy, group: str, inputs: Inputs) -> Cut | None:
    names = [g.name for g in anatomy.groups]
    lower = _modules_of([g for g in anatomy.groups[: names.index(group)] if g.kind == "block"])
    entry = anatomy.group(group).entry
    if not entry or names.index(group) == 0:
        return None
    whole, shapes = _watched(model, lower, entry, inputs)
    shapes |= dict.fromkeys(_idle(model, anatomy))
    for cut in (Cut(model, group, entry, direct=True), Cut(model, group, entry, shapes)):
        try:
            state = cut.capture(inputs)
            cut.layout = tuple(sorted(range(state.dim()), key=state.stride, reverse=True))
            if len(state) == len(whole) and torch.equal(cut.above(inputs, state.contiguous()), whole):
                return cut
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            continue  # a module that cannot be called this way: the trial's answer is no
    return None


def _modules_of(groups: Sequence[Group]) -> list[str]:
    """The modules that blocks consist of, and those outside them that hold their parameters (a norm that follows)."""
    own = {module for group in groups for module in (group.entry, *group.others)}
    holders = {parameter.name.rpartition(".")[0] for group in groups for parameter in group.parameters}
    return [*own, *(h for h in holders if h and not any(h == m or h.startswith(f"{m}.") for m in own))]


def _idle(model: nn.Module, anatomy: Anatomy) -> list[str]:
    """Modules of idle parameters only, the outermost. If they are called at all it is in training mode, as a second
    classifier halfway is, and nothing that is used comes of it; but they would not take what is handed on to them."""
    idle, found = {parameter.name for parameter in anatomy.idle}, list[str]()
    for name, module in model.named_modules():
        inside = {f"{name}.{own}" for own, _ in module.named_parameters()}
        if inside and inside <= idle and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def _watched(model: nn.Module, modules: list[str], entry: str, inputs: Inputs) -> tuple[Tensor, dict[str, int | None]]:
    """The model's outputs, and how many further parts the output has of each module that is done when the entry
    is met."""
    shapes: dict[str, int | None] = {}
    met = False

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, made: Any) -> None:
            if not met:
                shapes[name] = len(made) - 1 if isinstance(made, tuple) else None

        return hook

    def meet(*_: Any) -> None:
        nonlocal met
        met = True

    handles = [model.get_submodule(name).register_forward_hook(note(name)) for name in modules]
    handles.append(model.get_submodule(entry).register_forward_pre_hook(meet))
    try:
        return outputs_of(model, inputs), shapes
    finally:
        for handle in handles:
            handle.remove()


def _hand_on(more: int | None) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        state = first_tensor(args, kwargs)
        return state if more is None else (state, *([None] * more))

    return forward


def _laid_out(state: Tensor, layout: tuple[int, ...]) -> Tensor:
    """The same numbers with the dimensions in this order in memory."""
    back = sorted(range(len(layout)), key=layout.__getitem__)
    return state.permute(layout).contiguous().permute(back)


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


def _with_state(args: tuple[Any, ...], kwargs: dict[str, Any], state: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for place, value in enumerate(args):
        if isinstance(value, Tensor):
            return (*args[:place], state, *args[place + 1 :]), kwargs
    name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
    return args, {**kwargs, name: state}
