"""Pulls towards the pretrained model. What it gives for each training row is computed once, before anything moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whet.data.store import Targets, as_tensor
from whet.engine.capture import States
from whet.errors import StrategyError
from whet.models.cut import first_tensor
from whet.plan.pulls import Pull, ToFeatures, ToOutputs, ToWeights
from whet.plan.values import Plan

Apart = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pretrained:
    """What a plan's pulls ask of the pretrained model: weights by name, and for each training row its features (rows x
    hidden) and its outputs, fp32; None where no pull asks for them."""

    weights: Mapping[str, Tensor]
    features: Tensor | None
    outputs: Targets | None

    @staticmethod
    def of(
        plan: Plan,
        weights: Mapping[str, Tensor],
        features: Callable[[], States | None],
        outputs: Callable[[], Targets],
    ) -> Pretrained:
        """Computed where it is asked for. `weights` are copied. Raises `StrategyError` where the head takes no
        vectors."""
        kinds = {type(pull) for phase in plan.phases for pull in phase.pulls}
        made = features() if ToFeatures in kinds else None
        if ToFeatures in kinds and (made is None or made.sequence or made.flat.dim() != 2):
            raise StrategyError(
                "a pull to features needs a head that takes one vector per row; this one takes something else: "
                "use a pooled head (leave out --head native), or pull_to_base(weights=...)"
            )
        return Pretrained(
            {name: value.detach().clone() for name, value in weights.items()} if ToWeights in kinds else {},
            None if made is None else torch.from_numpy(made.vectors()),
            outputs() if ToOutputs in kinds else None,
        )


class Pulls:
    """The pulls of one phase. While it lasts, a hook before the module `head` takes the features of each batch.
    `apart` says how far outputs lie from those of the pretrained model, summed over the rows of a batch."""

    def __init__(
        self, pulls: Sequence[Pull], base: Pretrained, head: nn.Module, device: torch.device, apart: Apart
    ) -> None:
        self.pulls, self.weights = pulls, {name: value.to(device) for name, value in base.weights.items()}
        self.features = None if base.features is None else base.features.to(device)
        self.outputs, self.apart = base.outputs, apart
        self.seen: Tensor | None = None
        self.handle = head.register_forward_pre_hook(self.take, with_kwargs=True)

    def take(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.seen = first_tensor(args, kwargs) if torch.is_grad_enabled() else None

    def on_rows(self, outputs: Tensor, rows: np.ndarray) -> Tensor:
        """What features and outputs add to the loss of these training rows: the sum over rows."""
        total = outputs.new_zeros(())
        chosen = torch.from_numpy(rows).to(outputs.device)
        for pull in self.pulls:
            if isinstance(pull, ToFeatures) and self.features is not None and self.seen is not None:
                distance = (self.seen.float() - self.features[chosen]).square().mean(1)
                total = total + pull.strength * distance.sum()
            if isinstance(pull, ToOutputs) and self.outputs is not None:
                base = as_tensor(self.outputs[rows]).to(outputs.device)
                total = total + pull.strength * self.apart(outputs, base)
        self.seen = None
        return total

    def on_weights(self, moving: Mapping[str, nn.Parameter], scale: Tensor | float) -> None:
        """Add to the gradients, which are `scale` times their size, what the distance of the weights adds to them."""
        for pull in self.pulls:
            if isinstance(pull, ToWeights):
                for name, parameter in moving.items():
                    if name in self.weights and parameter.grad is not None:
                        parameter.grad += (parameter.detach() - self.weights[name]) * (pull.strength * scale)

    def close(self) -> None:
        self.handle.remove()
