"""The text form of values: `name(arguments)`, parsed and never evaluated.

One grammar for strategies, selections, optimizers and heads, so that a flag, a YAML file and Python
say the same thing: `interpolate(full, share=0.5)`, `head() + match("*.bias")`, `sgd(momentum=0.9)`.
A bare name is a call without arguments.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from whet.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Call:
    """`name(*args, **kwargs)`; arguments are constants, lists of them, or further calls."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Combined:
    """Two parsed values joined by `+` or `-`."""

    left: Any
    sign: str
    right: Any


def parse(text: str) -> Any:
    """The `Call`, `Combined` or constant that a text stands for.

    Raises `UsageError` naming the part that is not of this grammar.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _value(tree.body, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}..."
        raise UsageError(f"cannot read {shown!r}: write it like name, or name(argument=value)") from error


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name(id=name):
            return Call(name)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            named = {word.arg: _value(word.value, text) for word in keywords if word.arg}
            if len(named) == len(keywords):
                return Call(name, tuple(_value(arg, text) for arg in args), named)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return tuple(_value(part, text) for part in parts)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=right):
            return Combined(_value(left, text), "+" if isinstance(sign, ast.Add) else "-", _value(right, text))
    raise UsageError(f"cannot read {ast.unparse(node)!r} in {text!r}: only names, numbers, texts and lists are allowed")


def show(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The text that parses back to this call."""
    parts = [_shown(arg) for arg in args] + [f"{key}={_shown(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(parts)})"


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_shown(part) for part in value) + "]"
    if isinstance(value, BaseModel):
        kind = getattr(value, "kind", None)
        return repr(show(kind, (), value.model_dump(exclude_defaults=True)) if kind else str(value))
    return repr(value) if isinstance(value, str | int | float | bool | type(None)) else str(value)


def build(value: Any, makers: Mapping[str, Callable[..., Any]], kind: str) -> Any:
    """Make what a parsed text names, its inner calls first; an unknown name gets the nearest known one."""
    if isinstance(value, tuple):
        return tuple(build(part, makers, kind) for part in value)
    if isinstance(value, Combined):
        left, right = build(value.left, makers, kind), build(value.right, makers, kind)
        try:
            return left + right if value.sign == "+" else left - right
        except (TypeError, ValueError) as error:
            raise UsageError(f"these cannot be joined by {value.sign}: {_shown(left)}, {_shown(right)}") from error
    if not isinstance(value, Call):
        return value
    if value.name not in makers:
        raise UsageError(f"unknown {kind} {value.name!r}; {did_you_mean(value.name, makers)}")
    args = tuple(build(arg, makers, kind) for arg in value.args)
    kwargs = {key: build(arg, makers, kind) for key, arg in value.kwargs.items()}
    try:
        return makers[value.name](*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{kind} {value.name}: {_reason(error, makers[value.name])}") from error


def _reason(error: TypeError | ValueError, maker: Any) -> str:
    """What was wrong with the arguments, in one line; an unknown one gets the nearest name."""
    if not isinstance(error, ValidationError):
        return "its arguments need names" if isinstance(maker, type) else str(error)
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"no argument {name!r}; {did_you_mean(name, maker.model_fields)}"
    return f"{name}: {fault['msg']}"


def text_to(makers: Mapping[str, Callable[..., Any]], kind: str) -> Callable[[Any], Any]:
    """A validator that turns the text form of a value into the value, and leaves anything else alone.

    Wrong names and arguments become a `ValueError`, so that pydantic collects them with the others.
    """

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return build(parse(value), makers, kind)
        except UsageError as error:
            raise ValueError(str(error)) from error

    return read
