"""A model whose own head is kept: a result of whet, or a checkpoint of a transformers classifier, tuned further on the
labels that it was made for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from whet.errors import ModelError
from whet.models.heads import Head, Output, Pooled
from whet.models.load import Built, Origin, build, outside_body
from whet.models.reference import ModelFolder
from whet.plan.edits import Edit, NewHead

HEAD, FACTS = "head.safetensors", "head.json"


def build_kept(source: Any, edits: tuple[Edit, ...], output: Output, seed: int) -> Built:
    """The model with the head that its folder holds.

    Raises `ModelError` where there is none, or where its labels are not those of `output`, in that order.
    """
    labels = output.labels
    if not isinstance(source, ModelFolder):
        raise ModelError(f"{source.reference} keeps its own head anyway; leave out --head kept")
    own, concrete = labels_of(source), head_of(source)
    if own is None or concrete is None:
        raise ModelError(f"{source.reference} has no head that could be kept; leave out --head kept")
    if list(own) != list(labels):
        raise ModelError(
            f"the head of {source.reference} was made for other labels ({shown(own)}) than the rows have "
            f"({shown(labels)}), so it cannot be kept; leave out --head kept"
        )
    wish = next(edit for edit in edits if isinstance(edit, NewHead))
    concrete = concrete.model_copy(update={"dropout": wish.dropout})
    others = tuple(edit for edit in edits if not isinstance(edit, NewHead))
    built = build(source, (concrete, *others), len(labels), seed, output.per)
    added = built.adapted.added if built.adapted else ()
    new = tuple(name for name in built.origin.new if name not in added)
    if isinstance(built.model, Pooled):
        load_head(built.model.head, source)
    elif new:
        raise ModelError(f"{source.reference} lacks weights of its head: {', '.join(new)}; leave out --head kept")
    origin = Origin(built.origin.loaded + len(new), added, built.origin.left_over)
    return replace(built, origin=origin, kept=new or outside_body(built.model))


def load_head(head: Head, source: ModelFolder) -> None:
    try:
        head.load_state_dict(load_file(source.folder / HEAD))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"cannot read the head of {source.reference}: {error}") from error


def labels_of(source: ModelFolder) -> tuple[str, ...] | None:
    """The labels of a folder's own head, in the order of its outputs; None where it has none."""
    facts = _read(source, FACTS)
    if "labels" in facts:
        return tuple(facts["labels"])
    config = _read(source, "config.json")
    names = config.get("id2label")
    if not names or not any("Classification" in str(name) for name in config.get("architectures") or ()):
        return None
    return tuple(names[number] for number in sorted(names, key=int))


def head_of(source: ModelFolder) -> NewHead | None:
    """The head that a folder holds, as a value."""
    facts = _read(source, FACTS)
    if not facts:
        return NewHead(kind="native")
    known = {name: value for name, value in facts.items() if name in NewHead.model_fields}
    return NewHead.model_validate(known) if "kind" in known else None


def shown(labels: Sequence[str]) -> str:
    return ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")


def _read(source: ModelFolder, name: str) -> dict[str, Any]:
    path = source.folder / name
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {name} of {source.reference}: {error}") from error
    return found
