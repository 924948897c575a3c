"""What is changed in a model before training, and what is done with its weights after it. Pure values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whet.plan.base import Value


class NewHead(Value):
    """The output layer. `pooled`: pool the body's states, then hidden layers, then linear. `native`: the layer that the
    model's own class for the task brings. `kept`: the model's own head, as it came, for the same labels.

    `pooling` None means what the model was made for. `dropout` is the share of activations dropped in the head while
    training; `depth` keeps so many blocks of the body.
    """

    edit: Literal["new head"] = "new head"
    kind: Literal["pooled", "native", "kept"] = "pooled"
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


class Interpolate(Value):
    """The result lies the `share` of the way from the pretrained to the tuned weights; None: the best on validation of
    0 to 1 in tenths."""

    edit: Literal["interpolate"] = "interpolate"
    share: float | None = Field(None, ge=0, le=1)


Edit = Annotated[NewHead | SetDropout, Field(discriminator="edit")]
"""Done before training, in their order."""
Finish = Annotated[Average | Interpolate, Field(discriminator="edit")]
"""Done after training, in their order."""
