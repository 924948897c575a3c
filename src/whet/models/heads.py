"""Heads: what turns the body's states into one row of outputs per text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whet.plan.edits import NewHead


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
    """Hidden layers with GELU, then linear: B x H to B x outputs. Always computed in fp32."""

    def __init__(self, width: int, outputs: int, edit: NewHead) -> None:
        super().__init__()
        self.edit = edit
        layers: list[nn.Module] = []
        for size in edit.hidden:
            layers += [nn.Dropout(edit.dropout), nn.Linear(width, size), nn.GELU()]
            width = size
        self.layers = nn.Sequential(*layers, nn.Dropout(edit.dropout), nn.Linear(width, outputs))

    def forward(self, pooled_BH: Tensor) -> Tensor:
        with torch.autocast(pooled_BH.device.type, enabled=False):
            return self.layers(pooled_BH.float())


class Pooled(nn.Module):
    """A transformers body, a pooling and a head."""

    def __init__(self, body: nn.Module, head: Head, pooling: str) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.pooling = pooling

    def with_head(self, head: Head) -> Pooled:
        """The same body and pooling with another head."""
        return Pooled(self.body, head, self.pooling)

    def states(self, inputs: dict[str, Tensor]) -> Tensor:
        """The body's last states of the tokens, B x T x H."""
        made: Tensor = self.body(**inputs).last_hidden_state
        return made

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.head(pool(self.states(inputs), inputs["attention_mask"], self.pooling))


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
