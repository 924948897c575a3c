"""The states after each of several blocks of a body, from one pass: what a body kept to so many blocks would give.

No code per architecture. The state after block k is what arrives at the block behind it, and the pass ends at the
deepest one wanted. What the body does after its last block, a decoder's final norm say, is done to each of them by the
body itself, all blocks handing on what is put in before the first. Whether that comes out right is found by trial.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whet.errors import ModelError, SettingsError
from whet.models.cut import Cut, Inputs, in_eval_mode, states_at
from whet.models.heads import Pooled
from whet.models.load import keep_blocks
from whet.plan.anatomy import Anatomy

END = "end"


class Last(nn.Module):
    """A body and a place behind it, where its last states arrive."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body: Any = body
        self.end = nn.Identity()

    def forward(self, **inputs: Tensor) -> Tensor:
        made: Tensor = self.end(self.body(**inputs).last_hidden_state)
        return made


@dataclass(frozen=True)
class Depths:
    """`entries` are the modules at which the states of each depth arrive, in the order of `depths` (blocks from the
    input). `tail` does what the body does after its last block; None where that is nothing."""

    model: Last
    depths: tuple[int, ...]
    entries: tuple[str, ...]
    tail: Cut | None

    def states(self, inputs: Inputs) -> list[Tensor]:
        """Rows x tokens x hidden for each depth."""
        found = [arrived.state for arrived in states_at(self.model, self.entries, inputs)]
        if self.tail is None:
            return found
        pairs = zip(self.entries, found, strict=True)
        return [state if entry == END else self.tail.above(inputs, state) for entry, state in pairs]


def find_depths(model: Pooled, anatomy: Anatomy, depths: Sequence[int] | None, inputs: Inputs) -> Depths:
    """How to read `depths` of a model (None: all). Tried in fp32 on `inputs`, one real batch.

    Raises `SettingsError` for depths that the model has not, `ModelError` where one pass does not give what the model
    kept to that depth does.
    """
    blocks = [group.entry for group in anatomy.blocks]
    wanted = tuple(range(1, len(blocks) + 1)) if depths is None else tuple(sorted(set(depths)))
    _refuse_unknown(wanted, len(blocks), anatomy.model)
    last = Last(model.body)
    entries = tuple([*blocks[1:], END][depth - 1] for depth in wanted)
    with in_eval_mode(last), torch.no_grad():
        tail = _tail(last, blocks, inputs)
        found = Depths(last, wanted, entries, tail)
        for depth, state in zip(wanted, found.states(inputs), strict=True):
            if not torch.equal(state.float(), _kept_to(depth, model.body, anatomy.model, inputs)):
                raise ModelError(f"{anatomy.model}: its states after {depth} blocks cannot be read from one pass")
    return found


def _refuse_unknown(wanted: Sequence[int], count: int, name: str) -> None:
    if not count:
        raise ModelError(f"{name}: it has no blocks that can be told apart, so it has no depths")
    wrong = [depth for depth in wanted if not 1 <= depth <= count]
    if wrong:
        near = sorted({min(max(depth, 1), count) for depth in wrong})
        raise SettingsError(
            f"depths = {', '.join(map(str, wrong))}: {name} has {count} blocks, so depths are 1 to {count}; "
            f"did you mean {', '.join(map(str, near))}?"
        )


def _kept_to(depth: int, body: nn.Module, name: str, inputs: Inputs) -> Tensor:
    """The last states of the body with its first `depth` blocks alone; the copy shares the weights."""
    shared = {id(tensor): tensor for tensor in (*body.parameters(), *body.buffers())}
    kept: Any = copy.deepcopy(body, shared)
    keep_blocks(kept, depth, name)
    made: Tensor = kept(**inputs).last_hidden_state
    return made.float()


def _tail(last: Last, blocks: list[str], inputs: Inputs) -> Cut | None:
    """What comes after the last block, as a cut before the first above which no block does anything."""
    made: dict[str, Any] = {}
    handles = [
        last.get_submodule(block).register_forward_hook(lambda _, __, out, block=block: made.__setitem__(block, out))
        for block in blocks
    ]
    try:
        after = last(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    before = made[blocks[-1]]
    if torch.equal(before[0] if isinstance(before, tuple) else before, after):
        return None
    more = {block: len(out) - 1 if isinstance(out, tuple) else None for block, out in made.items()}
    return Cut(last, "end", blocks[0], more, layout=tuple(range(after.dim())))
