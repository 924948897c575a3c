"""Strategies that leave the body as it is and train what is added to it: low-rank adapters, virtual tokens.

Each says where it comes from, when it pays and when not, and where its defaults come from. How adapters are put in,
saved and merged, and what is refused, stands in docs/guide/adapters.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from whet.errors import StrategyError
from whet.plan.anatomy import Anatomy
from whet.plan.base import Value
from whet.plan.edits import Adapter, Interpolate, LowRank, Merge, Prefix, Prompt, QuantizeBody
from whet.plan.pulls import ToWeights
from whet.plan.schedules import Linear, Warmup
from whet.plan.select import adapters, head
from whet.plan.strategy import strategy
from whet.plan.values import AdamW, Defaults, Length, Phase, Plan

LOW_RANK_RATE = 1.5e-3
"""Ten times that of `full`: about the ratio that is usual for LoRA. Not measured here."""
VIRTUAL_RATE = 1e-2
"""Virtual tokens are few and far from the outputs, and are trained at high rates. Not measured here."""

T = TypeVar("T", bound=Value)


def adapter_phase(defaults: Defaults, name: str, rate: float, epochs: float) -> Phase:
    """A phase that moves what was added to the body, and the head: AdamW without decay, linear decay of the rate after
    6 % warm-up."""
    return defaults.phase(
        name,
        adapters() + head(),
        learning_rate=rate,
        length=Length(amount=epochs, unit="epochs"),
        optimizer=AdamW(weight_decay=0.0),
        schedule=Linear(warmup=Warmup(share=0.06)),
    )


@strategy
def lora(
    anatomy: Anatomy,
    defaults: Defaults,
    rank: int = 8,
    alpha: float = 16,
    targets: str | Sequence[str] | None = None,
    dropout: float = 0.0,
    dora: bool = False,
    rank_stabilized: bool = False,
    merge: bool = False,
    blocks: int | None = None,
) -> Plan:
    """Low-rank adapters beside frozen weights, and the head (LoRA, Hu et al. 2022). What is saved is the adapter: a
    hundredth of the model's size; with `merge=True` it is a model like any other.

    `targets` names the layers that get one (`"query"`, `["query", "value"]`, a pattern with `*`); without it every
    linear layer of the blocks does (Dettmers et al. 2023, section 4). `blocks` keeps to the topmost ones: what lies
    below is then computed once. `dora` is DoRA (Liu et al. 2024), `rank_stabilized` is rsLoRA (Kalajdzievski 2023).
    Pays where many tuned variants of one model are kept, or where gradients and optimizer of all weights do not fit.
    Does not pay for time alone: the gradient passes every block. Defaults: 3 epochs; rank and alpha are usual ones.
    """
    if blocks is not None and not 1 <= blocks <= len(anatomy.blocks):
        raise StrategyError(f"lora(blocks={blocks}): {anatomy.model} has {len(anatomy.blocks)} blocks; give 1 to that")
    chosen = anatomy.blocks[-blocks:] if blocks else anatomy.blocks
    edit = checked(
        LowRank,
        "lora",
        rank=rank,
        alpha=alpha,
        targets=(targets,) if isinstance(targets, str) else tuple(targets or ()),
        within=tuple(module for block in chosen for module in (block.entry, *block.others)),
        dropout=dropout,
        dora=dora,
        rank_stabilized=rank_stabilized,
    )
    phase = adapter_phase(defaults, f"adapters of rank {rank}", LOW_RANK_RATE, 3)
    return Plan(edits=(*defaults.edits, edit), phases=(phase,), finish=(Merge(),) if merge else ())


@strategy
def prefix(anatomy: Anatomy, defaults: Defaults, tokens: int = 16) -> Plan:
    """Virtual tokens before every text, as keys and values of their own in each block, and the head (Li and Liang
    2021; for classification Liu et al. 2022, P-tuning v2). The body is untouched.

    Pays where next to nothing may be stored for a task. Does not pay where the score counts most: `lora` is easier to
    train. Refused for models that take no keys and values from outside, and with a head of the model's own. Texts are
    cut shorter by the virtual tokens. Defaults: 16 tokens, 5 epochs.
    """
    edit = checked(Prefix, "prefix", tokens=tokens)
    phase = adapter_phase(defaults, f"prefix of {tokens} tokens", VIRTUAL_RATE, 5)
    return Plan(edits=(*defaults.edits, edit), phases=(phase,))


@strategy
def prompt(anatomy: Anatomy, defaults: Defaults, tokens: int = 16) -> Plan:
    """Virtual tokens before every text, as embeddings, and the head (Lester et al. 2021). The body is untouched: what
    is added are `tokens` vectors.

    Pays with very large models, where it came close to tuning all weights; with small ones it falls behind, in the
    paper too. Refused with a head of the model's own. Texts are cut shorter by the virtual tokens. Defaults: 16
    tokens, 5 epochs; they start as embeddings of words drawn from the vocabulary, as the paper advises.
    """
    edit = checked(Prompt, "prompt", tokens=tokens)
    phase = adapter_phase(defaults, f"prompt of {tokens} tokens", VIRTUAL_RATE, 5)
    return Plan(edits=(*defaults.edits, edit), phases=(phase,))


def checked(kind: type[T], name: str, **fields: Any) -> T:
    """An edit of a strategy's arguments. Raises `StrategyError` that names the wrong one."""
    try:
        return kind(**fields)
    except ValidationError as error:
        fault = error.errors()[0]
        raise StrategyError(f"strategy {name}, argument {fault['loc'][0]}: {fault['msg']}") from error


def check_edits(plan: Plan) -> None:
    """Raises `StrategyError` where what a plan adds to a model, or does with it in the end, cannot go together."""
    added = [edit for edit in plan.edits if isinstance(edit, Adapter)]
    merges = [number for number, edit in enumerate(plan.finish) if isinstance(edit, Merge)]
    quantized = next((edit for edit in plan.edits if isinstance(edit, QuantizeBody)), None)
    if len(added) > 1:
        names = " and ".join(edit.edit for edit in added)
        raise StrategyError(f"the plan adds {names} to one model; it can be one of them")
    if quantized and not added:
        raise StrategyError(
            f"quantize_body = {quantized.to} is for adapters on a frozen body, and this strategy adds none: "
            "take lora, prefix or prompt, or leave quantize_body out"
        )
    if merges and not isinstance(next(iter(added), None), LowRank):
        raise StrategyError("merge adds low-rank adapters to the weights beside them, and the plan has none")
    if merges and quantized:
        raise StrategyError(
            f"merge would round the adapters away with the weights that quantize_body = {quantized.to} has rounded: "
            "keep them beside the body (leave out merge), or leave out quantize_body"
        )
    if added and any(isinstance(edit, Interpolate) for edit in plan.finish):
        raise StrategyError(
            "interpolate takes weights between the pretrained and the tuned ones, and those of an adapter are new: "
            "wrap a strategy that moves the body itself"
        )
    if merges and merges != [len(plan.finish) - 1]:
        raise StrategyError("merge comes once, and last of what is done after training")


def check_moves(plan: Plan, anatomy: Anatomy) -> None:
    """Raises `StrategyError` where a phase beside adapters pulls weights that are new, or moves weights of the body and
    adapters are what will be saved."""
    if not any(isinstance(edit, Adapter) for edit in plan.edits):
        return
    merges = any(isinstance(edit, Merge) for edit in plan.finish)
    new = adapters().names(anatomy) | head().names(anatomy)
    for phase in plan.phases:
        beyond = sorted(phase.train.on(anatomy) - new)
        if not beyond and any(isinstance(pull, ToWeights) for pull in phase.pulls):
            raise StrategyError(
                f"phase {phase.name!r} pulls weights back to the pretrained ones, and moves none that were pretrained: "
                "give pull_to_base(features=...) instead"
            )
        if beyond and not merges:
            raise StrategyError(
                f"phase {phase.name!r} moves weights of the body itself, for example {beyond[0]}, and only adapters "
                "and head are saved: train adapters() and head(), or with lora give merge=True"
            )
