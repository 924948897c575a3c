"""Selections: which parameters move. Each has a text form, e.g. `head() + match("*.bias")`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from whet.errors import SelectionError, UsageError
from whet.plan.anatomy import Anatomy
from whet.plan.base import Value
from whet.plan.text import build, parse, show


class Select(Value):
    """A selection of parameters, resolved against an anatomy."""

    @abstractmethod
    def names(self, anatomy: Anatomy) -> frozenset[str]:
        """The names of the selected parameters; empty where the selection allows it."""

    def on(self, anatomy: Anatomy) -> frozenset[str]:
        """The names of the selected parameters. Raises `SelectionError` when there are none."""
        found = self.names(anatomy)
        if not found:
            groups = [group.name for group in anatomy.groups]
            shown = ", ".join(groups if len(groups) < 6 else [*groups[:2], "...", *groups[-2:]])
            raise SelectionError(f"{self} selects nothing in {anatomy.model}; its groups are {shown}")
        return found

    @staticmethod
    def parse(text: str) -> Select:
        """The selection that a text names, e.g. `head() + match("*.bias")`. Raises `SelectionError`."""
        try:
            made = build(parse(text), MAKERS, "selection")
        except UsageError as error:
            raise SelectionError(str(error)) from error
        if not isinstance(made, Select):
            raise SelectionError(f"{text!r} is no selection; write for example head(), top(2) or match('*.bias')")
        return made

    def __add__(self, other: Select) -> Select:
        return Joined(left=self, right=other)

    def __sub__(self, other: Select) -> Select:
        return Without(left=self, right=other)


class Everything(Select):
    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return frozenset(parameter.name for parameter in anatomy.parameters)

    def __str__(self) -> str:
        return "everything()"


class Head(Select):
    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return frozenset(parameter.name for parameter in anatomy.head.parameters)

    def __str__(self) -> str:
        return "head()"


class Top(Select):
    """The head and the `count` blocks nearest to it."""

    count: int = Field(ge=0)

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        if self.count > len(anatomy.blocks):
            raise SelectionError(f"top({self.count}): {anatomy.model} has {len(anatomy.blocks)} blocks")
        chosen = (*anatomy.blocks[len(anatomy.blocks) - self.count :], anatomy.head)
        return frozenset(parameter.name for group in chosen for parameter in group.parameters)

    def __str__(self) -> str:
        return f"top({self.count})"


class Groups(Select):
    """Whole groups by name."""

    chosen: tuple[str, ...] = Field(min_length=1)

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return frozenset(parameter.name for name in self.chosen for parameter in anatomy.group(name).parameters)

    def __str__(self) -> str:
        return show("groups", self.chosen, {})


class Match(Select):
    """Parameters whose name fits one of the patterns (`*` stands for any characters)."""

    patterns: tuple[str, ...] = Field(min_length=1)

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        every = [parameter.name for parameter in anatomy.parameters]
        found: set[str] = set()
        for pattern in self.patterns:
            fits = {name for name in every if fnmatchcase(name, pattern)}
            if not fits:
                example = every[len(every) // 2] if every else "none"
                raise SelectionError(
                    f"{pattern!r} matches none of the {len(every)} parameters of {anatomy.model}. "
                    f"Names here look like {example!r}"
                )
            found |= fits
        return frozenset(found)

    def __str__(self) -> str:
        return show("match", self.patterns, {})


class Kinds(Select):
    """Parameters by what they are: weight, bias or norm."""

    chosen: tuple[Literal["weight", "bias", "norm"], ...] = Field(min_length=1)

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return frozenset(parameter.name for parameter in anatomy.parameters if parameter.kind in self.chosen)

    def __str__(self) -> str:
        return show("kinds", self.chosen, {})


class Adapters(Select):
    """The parameters that the plan's edits have added to the body."""

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return frozenset(anatomy.added)

    def __str__(self) -> str:
        return "adapters()"


class Joined(Select):
    left: AnySelect
    right: AnySelect

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return self.left.names(anatomy) | self.right.names(anatomy)

    def __str__(self) -> str:
        return f"{self.left} + {_bracketed(self.right)}"


class Without(Select):
    left: AnySelect
    right: AnySelect

    def names(self, anatomy: Anatomy) -> frozenset[str]:
        return self.left.names(anatomy) - self.right.names(anatomy)

    def __str__(self) -> str:
        return f"{self.left} - {_bracketed(self.right)}"


def _bracketed(part: Select) -> str:
    return f"({part})" if isinstance(part, Joined | Without) else str(part)


def everything() -> Select:
    return Everything()


def head() -> Select:
    return Head()


def top(count: int) -> Select:
    return Top(count=count)


def groups(*names: str) -> Select:
    return Groups(chosen=names)


def match(*patterns: str) -> Select:
    return Match(patterns=patterns)


def kinds(*names: str) -> Select:
    return Kinds(chosen=names)  # type: ignore[arg-type]


def adapters() -> Select:
    return Adapters()


MAKERS: dict[str, Callable[..., Select]] = {
    "everything": everything,
    "head": head,
    "top": top,
    "groups": groups,
    "match": match,
    "kinds": kinds,
    "adapters": adapters,
}


def _read(value: Any) -> Any:
    return Select.parse(value) if isinstance(value, str) else value


AnySelect = Annotated[Select, BeforeValidator(_read), PlainSerializer(str)]
Joined.model_rebuild()
Without.model_rebuild()
