"""Anatomy: a model as an ordered list of named groups of parameters. A value; `models/anatomy.py` fills it in."""

from __future__ import annotations

from typing import Literal

from whet.errors import SelectionError, did_you_mean
from whet.plan.base import Value

HEAD = "head"


class Parameter(Value):
    """One tensor: its name in the model, how many numbers it holds, and what it is."""

    name: str
    size: int
    kind: Literal["weight", "bias", "norm"]


class Group(Value):
    """Parameters that stand at one depth. `entry` is the module that its computation starts with ("" where that is
    the model itself); `others` are the modules called after it, where no one module holds them all."""

    name: str
    kind: Literal["embeddings", "block", "head"]
    entry: str
    parameters: tuple[Parameter, ...]
    others: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(parameter.size for parameter in self.parameters)


class Anatomy(Value):
    """Groups from the input to the output; the last is always `head`, empty before one is added.

    `idle` holds parameters that the forward pass never reaches: they belong to no group and cannot be trained.
    `added` names those parameters of the groups that a plan's edits have put into the body.
    """

    model: str
    groups: tuple[Group, ...]
    hidden_size: int | None = None
    idle: tuple[Parameter, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def blocks(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.kind == "block")

    @property
    def body(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.kind != "head")

    @property
    def head(self) -> Group:
        return self.groups[-1]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for group in self.groups for parameter in group.parameters)

    @property
    def size(self) -> int:
        return sum(group.size for group in self.groups)

    def group(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        raise SelectionError(f"the model has no group {name!r}; {did_you_mean(name, (g.name for g in self.groups))}")

    def group_of(self) -> dict[str, str]:
        """Parameter name to group name."""
        return {parameter.name: group.name for group in self.groups for parameter in group.parameters}
