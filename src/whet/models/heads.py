"""Heads: what turns the body's states into outputs, for each text or for each of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from whet.plan.edits import NewHead

Per = Literal["row", "token"]


@dataclass(frozen=True)
class Output:
    """What a task asks of a model: an output for each of `labels`, `per` row or per token of it. `problem_type` is what
    the config of transformers calls it; None where it has no word for it."""

    labels: tuple[str, ...]
    per: Per = "row"
    problem_type: str | None = "single_label_classification"

    @staticmethod
    def of(labels: Sequence[str]) -> Output:
        """One of these labels for each row."""
        return Output(tuple(labels))

    def __len__(self) -> int:
        return len(self.labels)


def pool(states_BTH: Tensor, mask_BT: Tensor, how: str) -> Tensor:
    """One vector per row, in fp32: `mean` or `max` over real tokens, the first (`cls`) or the `last` real token.

    B rows, T tokens, H hidden size; returns B x H.
    """
    states_BTH = states_BTH.float()
    if how == "cls":
        return states_BTH[:, 0]
    if how == "last":
        last = mask_BT.shape[1] - 1 - mask_BT.flip(1).argmax(1)
        return states_BTH[torch.arange(len(states_BTH), device=states_BTH.device), last]
    real = mask_BT.unsqueeze(-1)
    if how == "max":
        return states_BTH.masked_fill(real == 0, float("-inf")).amax(1)
    return (states_BTH * real).sum(1) / real.sum(1)


class Head(nn.Module):
    """Hidden layers with GELU, then linear: B x H to B x outputs, or B x T x H to B x T x outputs. Always computed in
    fp32."""

    def __init__(self, width: int, outputs: int, edit: NewHead) -> None:
        super().__init__()
        self.edit = edit
        layers: list[nn.Module] = []
        for size in edit.hidden:
            layers += [nn.Dropout(edit.dropout), nn.Linear(width, size), nn.GELU()]
            width = size
        self.layers = nn.Sequential(*layers, nn.Dropout(edit.dropout), nn.Linear(width, outputs))

    def forward(self, given: Tensor) -> Tensor:
        with torch.autocast(given.device.type, enabled=False):
            return self.layers(given.float())


class Pooled(nn.Module):
    """A transformers body, a pooling and a head. Where the head is asked `per` token, its pooling is only that by which
    the body's vectors of whole texts are read elsewhere."""

    def __init__(self, body: nn.Module, head: Head, pooling: str, per: Per = "row") -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.pooling = pooling
        self.per = per

    def with_head(self, head: Head) -> Pooled:
        """The same body and pooling with another head."""
        return Pooled(self.body, head, self.pooling, self.per)

    def states(self, inputs: dict[str, Tensor]) -> Tensor:
        """The body's last states of the tokens, B x T x H."""
        made: Tensor = self.body(**inputs).last_hidden_state
        return made

    def forward(self, **inputs: Tensor) -> Tensor:
        states = self.states(inputs)
        return self.head(states if self.per == "token" else pool(states, inputs["attention_mask"], self.pooling))


def outputs_of(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The model's outputs in fp32: its own, or the `logits` of a transformers result."""
    made = model(**inputs)
    return (made if isinstance(made, Tensor) else made.logits).float()


def start(module: nn.Module, seed: int) -> None:
    """New weights from the seed alone: normal with deviation 0.02, biases zero (as BERT's own head starts)."""
    chance = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=chance) * 0.02)
