"""What is changed in a model before training, and what is done with its weights after it. Pure values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whet.plan.base import Value


class NewHead(Value):
    """A new output layer. `pooled`: pool the body's states, then hidden layers, then linear.

    `native`: the layer that the model's own class for the task brings. `pooling` None means what the
    model was made for. `dropout` is the share of activations dropped in the head while training.
    """

    edit: Literal["new head"] = "new head"
    kind: Literal["pooled", "native"] = "pooled"
    pooling: Literal["mean", "cls", "max", "last"] | None = None
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    dropout: float = Field(0.1, ge=0, lt=1)
    depth: int | None = Field(None, ge=1)


class SetDropout(Value):
    """Sets the share dropped by every dropout layer of the body (attention weights excepted) while training."""

    edit: Literal["set dropout"] = "set dropout"
    share: float = Field(ge=0, lt=1)


class Average(Value):
    """The result is the mean of the weights of the `best` validations of the run (fewer where there were fewer)."""

    edit: Literal["average"] = "average"
    best: int = Field(ge=2)


Edit = Annotated[NewHead | SetDropout, Field(discriminator="edit")]
"""Done before training, in their order."""
Finish = Average
"""Done after training, in their order."""
