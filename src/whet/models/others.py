"""Further heads on the body of a model: what replayed rows with other labels go through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from whet.errors import StrategyError
from whet.models.dropout import key_dropouts, mix
from whet.models.heads import Head, Output, Pooled, start
from whet.models.kept import FACTS, HEAD, head_of, labels_of, load_head
from whet.models.load import Built, head_facts
from whet.models.reference import ModelFolder
from whet.plan.anatomy import Anatomy
from whet.plan.edits import NewHead

OTHERS = "others"


@dataclass(frozen=True)
class Other:
    """A model that shares its body with the run's: `names` are the parameters of its head in the run's model; `came`
    says whether that head came with the model."""

    model: Pooled
    names: frozenset[str]
    came: bool


def add_heads(built: Built, source: Any, wanted: Sequence[Sequence[str]], seed: int) -> tuple[Other, ...]:
    """A head for each set of labels, put into the run's model, where its own pass does not reach them.

    One starts as the head that came with the model where that was made for these labels, else new. Raises
    `StrategyError` where the run's model has no pooled head.
    """
    if not wanted:
        return ()
    if not isinstance(built.model, Pooled):
        raise StrategyError(
            "replayed rows with other labels need a head of their own, which only a pooled head leaves room for: "
            "leave out --head native, or replay rows with the task's labels"
        )
    body: Any = built.model.body
    width = body.config.hidden_size
    heads, came = list[Head](), list[bool]()
    for number, labels in enumerate(wanted):
        edit = saved_for(source, labels)
        heads.append(Head(width, len(labels), edit or NewHead(dropout=built.head.dropout)))
        start(heads[-1], mix(seed, number + 1) >> 1)
        if edit is not None:
            load_head(heads[-1], source)
        came.append(edit is not None)
    setattr(built.model, OTHERS, nn.ModuleList(heads))
    key_dropouts(built.model, built.key)
    names = [name for name, _ in built.model.named_parameters()]
    own = [frozenset(name for name in names if name.startswith(f"{OTHERS}.{n}.")) for n in range(len(heads))]
    models = [built.model.with_head(head) for head in heads]
    return tuple(Other(*one) for one in zip(models, own, came, strict=True))


def saved_for(source: Any, labels: Sequence[str]) -> NewHead | None:
    """The pooled head that came with a model, where it was made for these labels."""
    if not isinstance(source, ModelFolder) or labels_of(source) != tuple(labels):
        return None
    head = head_of(source)
    return head if head is not None and head.kind == "pooled" else None


def with_heads(anatomy: Anatomy, others: Sequence[Other]) -> Anatomy:
    """The anatomy with the parameters of further heads, which its pass did not reach, in the group of the head."""
    names = frozenset[str]().union(*(other.names for other in others))
    theirs = tuple(parameter for parameter in anatomy.idle if parameter.name in names)
    head = anatomy.head.model_copy(update={"parameters": (*anatomy.head.parameters, *theirs)})
    idle = tuple(parameter for parameter in anatomy.idle if parameter.name not in names)
    return anatomy.model_copy(update={"groups": (*anatomy.body, head), "idle": idle})


def save_head(model: Pooled, output: Output, task: dict[str, Any], folder: Path) -> None:
    """Write a further head as `head.safetensors` and `head.json`, as the model's own lies beside its body."""
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in model.head.state_dict().items()}, folder / HEAD)
    facts = head_facts(output, task) | model.head.edit.model_dump(mode="json")
    facts["pooling"] = model.pooling
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
