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


class QuantizeBody(Value):
    """Rounds the frozen weights of the body's linear layers: `int8`, one scale for each output (torchao), or `nf4`,
    four bits in blocks of 64 (bitsandbytes; Dettmers et al. 2023, QLoRA). They cannot move; adapters on them can."""

    edit: Literal["quantize body"] = "quantize body"
    to: Literal["int8", "nf4"]


class LowRank(Value):
    """Low-rank adapters on linear layers of the body (Hu et al. 2022, LoRA): a layer's weight W becomes
    W + alpha / rank * B A, of which A (rank x inputs) and B (outputs x rank, zero at the start) are new.

    `targets` names layers: the last parts of a name (`query`, `attention.output.dense`) or a pattern with `*`; empty
    means every linear layer. `within` are modules outside of which no layer gets one; empty means the whole body.
    `dropout` is the share of a layer's input that its adapter does not see while training. `dora` trains the length
    of each output's weights apart from their direction (Liu et al. 2024), `rank_stabilized` divides alpha by the root
    of the rank (Kalajdzievski 2023).
    """

    edit: Literal["low rank"] = "low rank"
    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    targets: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    dropout: float = Field(0.0, ge=0, lt=1)
    dora: bool = False
    rank_stabilized: bool = False


class Prefix(Value):
    """Virtual tokens before every text, as keys and values of their own in each block (Li and Liang 2021)."""

    edit: Literal["prefix"] = "prefix"
    tokens: int = Field(16, ge=1)


class Prompt(Value):
    """Virtual tokens before every text, as embeddings (Lester et al. 2021); they start as those of words drawn from the
    vocabulary."""

    edit: Literal["prompt"] = "prompt"
    tokens: int = Field(16, ge=1)


class Average(Value):
    """The result is the mean of the weights of the `best` validations of the run (fewer where there were fewer)."""

    edit: Literal["average"] = "average"
    best: int = Field(ge=2)


class Interpolate(Value):
    """The result lies the `share` of the way from the pretrained to the tuned weights; None: the best on validation of
    0 to 1 in tenths."""

    edit: Literal["interpolate"] = "interpolate"
    share: float | None = Field(None, ge=0, le=1)


class Merge(Value):
    """Low-rank adapters are added to the weights that they stand beside: the result is a model without adapters."""

    edit: Literal["merge"] = "merge"


Adapter = LowRank | Prefix | Prompt
"""What adds parameters to a body that itself stands still."""
Edit = Annotated[NewHead | SetDropout | QuantizeBody | Adapter, Field(discriminator="edit")]
"""Done before training, in their order."""
Finish = Annotated[Average | Interpolate | Merge, Field(discriminator="edit")]
"""Done after training, in their order."""
