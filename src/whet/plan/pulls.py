"""What draws training back towards the pretrained model, beside the task's own loss. Pure values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whet.plan.base import Value


class ToWeights(Value):
    """Half of `strength` times the squared distance of the moving pretrained weights from where they started (L2-SP, Li
    et al. 2018, https://arxiv.org/abs/1802.01483). New weights, such as a head's, are left alone."""

    pull: Literal["weights"] = "weights"
    strength: float = Field(gt=0)

    def __str__(self) -> str:
        return f"weights pulled back by {self.strength:g}"


class ToFeatures(Value):
    """`strength` times the mean squared difference of a row's features, as they arrive at the head, from those of the
    pretrained model, over the rows of a batch (as in feature distillation, Romero et al. 2015)."""

    pull: Literal["features"] = "features"
    strength: float = Field(gt=0)

    def __str__(self) -> str:
        return f"features pulled back by {self.strength:g}"


class ToOutputs(Value):
    """`strength` times the Kullback-Leibler divergence, in nats, of a row's outputs from those of the pretrained model,
    over the rows of a batch (as in learning without forgetting, Li and Hoiem 2016, https://arxiv.org/abs/1606.09282).
    The model's own head has to be kept."""

    pull: Literal["outputs"] = "outputs"
    strength: float = Field(gt=0)

    def __str__(self) -> str:
        return f"outputs pulled back by {self.strength:g}"


Pull = Annotated[ToWeights | ToFeatures | ToOutputs, Field(discriminator="pull")]
