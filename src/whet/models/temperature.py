"""What is put into a model's last layer after training, so that whoever loads it has outputs as they are meant."""

from __future__ import annotations

import torch
from torch import nn

from whet.errors import ModelError
from whet.models.heads import Pooled


def last_layer(model: nn.Module, outputs: int) -> nn.Linear:
    """The linear layer that makes the outputs. Raises `ModelError` where the model ends in something else."""
    found = linear_end(model, outputs)
    if found is None:
        raise ModelError("--calibrate needs a model that ends in a linear layer; this one does not")
    return found


def linear_end(model: nn.Module, outputs: int) -> nn.Linear | None:
    """The linear layer that makes the outputs; None where the model ends in something else."""
    part = model.head if isinstance(model, Pooled) else model  # a pooled model may hold further heads
    layers = [m for m in part.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    return layers[-1] if layers else None


def scale_outputs(layer: nn.Linear, scale: float, shift: float) -> None:
    """Make the outputs of a last layer `scale` times what they were, plus `shift`, which needs a bias."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.mul_(scale).add_(shift)


def divide_outputs(model: nn.Module, outputs: int, temperature: float) -> None:
    """Divide the weights and bias of the last layer by `temperature` (above 0): its outputs are then divided by it.

    Temperature scaling: Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    layer = last_layer(model, outputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(temperature)
