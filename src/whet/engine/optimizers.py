"""Optimizers from values, their state keyed by parameter name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from whet.plan.anatomy import Anatomy
from whet.plan.values import SGD, Adagrad, Adam, AdamW, OneOptimizer


class Stepper:
    """A torch optimizer over named parameters, in groups that share a rate and a weight decay.

    Weight decay acts on weights alone, never on biases and norms.
    """

    def __init__(self, value: OneOptimizer, moving: Mapping[str, nn.Parameter], anatomy: Anatomy) -> None:
        group_of = anatomy.group_of()
        kinds = {parameter.name: parameter.kind for parameter in anatomy.parameters}
        self.names: list[list[str]] = []
        self.groups: list[str] = []
        bundles: dict[tuple[str, bool], list[str]] = {}
        for name in moving:
            bundles.setdefault((group_of[name], kinds[name] == "weight"), []).append(name)
        parts = []
        for (group, decays), names in bundles.items():
            self.names.append(names)
            self.groups.append(group)
            decay = value.weight_decay if decays else 0.0
            parts.append({"params": [moving[name] for name in names], "weight_decay": decay})
        self.torch = _make(value, parts)

    def step(self, rates: Mapping[str, float], divide_by: Tensor | None = None, skip: Tensor | None = None) -> None:
        """One step, with the rate of each group. Gradients count as divided by `divide_by`: clipping, without a pass
        over them, in the optimizer's own. Where `skip` is true, nothing changes."""
        self.torch.grad_scale = divide_by  # type: ignore[attr-defined]
        self.torch.found_inf = None if skip is None else skip.float()  # type: ignore[attr-defined]
        for part, group in zip(self.torch.param_groups, self.groups, strict=True):
            part["lr"] = rates[group]
        self.torch.step()

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the optimizer's state, as `parameter|field`."""
        found = {}
        for part, names in zip(self.torch.param_groups, self.names, strict=True):
            for parameter, name in zip(part["params"], names, strict=True):
                for field, value in self.torch.state.get(parameter, {}).items():
                    if value is not None:
                        found[f"{name}|{field}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of the parameters that this optimizer holds; others are left out."""
        fields: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, field = key.rpartition("|")
            fields.setdefault(name, {})[field] = value
        for part, names in zip(self.torch.param_groups, self.names, strict=True):
            for parameter, name in zip(part["params"], names, strict=True):
                if name in fields:
                    self.torch.state[parameter] = {
                        field: value.clone().to(
                            "cpu" if field == "step" and parameter.device.type == "cpu" else parameter.device
                        )
                        for field, value in fields[name].items()
                    }
                elif fields and part.get("momentum"):
                    # torch's fused SGD wants momentum for all parameters of a group or none; zero is where it starts.
                    self.torch.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}


def divide_by(norm: Tensor, longest: float, scale: Tensor | float) -> Tensor | None:
    """What gradients of length `norm` are divided by so that none is longer than `longest`, and the loss scale taken
    out; None where that is 1 and known without waiting."""
    factor = (norm / longest).clamp(min=1.0) * scale
    return None if factor.device.type == "cpu" and float(factor) == 1 else factor


def _make(value: OneOptimizer, parts: list[dict[str, object]]) -> torch.optim.Optimizer:
    # The rate is set before every step; 1.0 is never used.
    match value:
        case AdamW():
            return torch.optim.AdamW(parts, lr=1.0, betas=(value.beta1, value.beta2), eps=value.eps, fused=True)
        case Adam():
            return torch.optim.Adam(parts, lr=1.0, betas=(value.beta1, value.beta2), eps=value.eps, fused=True)
        case SGD():
            return torch.optim.SGD(parts, lr=1.0, momentum=value.momentum, nesterov=value.nesterov, fused=True)
        case Adagrad():
            return torch.optim.Adagrad(
                parts, lr=1.0, eps=value.eps, initial_accumulator_value=value.initial, fused=True
            )
