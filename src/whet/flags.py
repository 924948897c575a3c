"""Every option of `Settings` as a flag of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer

from whet.config import Settings

LOOSE = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "token_normalize_func": lambda name: name.replace("_", "-"),
}
"""Unknown options come to us, so that they are refused together with wrong values."""


def with_settings(
    command: Callable[..., None], names: Collection[str] = tuple(Settings.model_fields)
) -> Callable[..., None]:
    """Give a command options of Settings, all or those named. Values stay texts: `resolve` checks them all at once.

    What no option took reaches us as DATA and the words after it.
    """
    own = [
        p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in ("context", "flags")
    ]
    extra = []
    for name, field in Settings.model_fields.items():
        if name not in names:
            continue
        yes_or_no = field.annotation is bool
        flag = f"--{name.replace('_', '-')}"
        flag += f"/--no-{flag[2:]}" if field.default is True else ""
        extra_of: Any = field.json_schema_extra
        default = "" if field.default is None or name == "head" else f" [{field.default}]"
        accepts = "" if yes_or_no else f" ({extra_of['expects']}){default}"
        shown = typer.Option(
            flag, help=f"{field.description}{accepts}", show_default=False, metavar="" if yes_or_no else "VALUE"
        )
        kind = bool | None if yes_or_no else str | None
        extra.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, shown])
        )
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    def run(context: typer.Context, data: str = "", **given: Any) -> None:
        flags = {name: given.pop(name) for name in Settings.model_fields if name in names}
        flags = {name: value for name, value in flags.items() if value is not None}
        rows, unknown = sort_words([data, *context.args])
        command(data=rows, flags=flags | unknown, **given)

    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *extra]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def sort_words(words: list[str]) -> tuple[str, dict[str, Any]]:
    """What no option of ours took: the file of rows ("" when there is none), and unknown options with their values
    (`--name value`, `--name=value`). A word beyond that is quoted, and belongs to no option."""
    rows, unknown, name = "", {}, ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].replace("-", "_").partition("=")
            unknown[name] = value
            name = "" if equals else name
        elif name:
            unknown[name], name = word, ""
        elif rows or word.startswith("-"):
            unknown[repr(word)] = ""
        else:
            rows = word
    return rows, unknown
