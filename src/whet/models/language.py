"""A checkpoint's own language-model head beside a body that has been tuned since: what the body can still predict.

No code per architecture: transformers' class with the head is loaded whole, and the body is put in the place of the
one that came with it. Neither body nor head is changed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers

from whet.errors import ModelError
from whet.models.load import load_as
from whet.models.quiet import quiet_libraries
from whet.models.reference import ModelFolder

Kind = Literal["next token", "masked"]
NO_HEAD = "its checkpoint has no language-model head"


@dataclass(frozen=True)
class LanguageModel:
    """`model` is called with `input_ids` and `attention_mask` and gives `logits` (B x T x vocabulary), of the token
    that comes next or of the one that a mask stands for."""

    model: Any
    kind: Kind


def language_model(source: ModelFolder, body: Any, left_over: Collection[str]) -> LanguageModel | str:
    """The checkpoint's language-model head on top of `body`, or the reason why there is none.

    `left_over` names the weights of the checkpoint that the body has no use for: where those of the head are not among
    them, nothing is loaded. A head that is tied to the embeddings stays tied, and so moves with the body's own: that
    is what plain transformers makes of the saved body.
    """
    found = _class_for(body.config)
    if found is None:
        return "transformers has no language model of its kind"
    kind, auto = found
    own = _weights_of_head(auto, body.config)
    if own and not own & set(left_over):
        return NO_HEAD
    try:
        whole, origin = load_as(source, auto)
    except ModelError as error:
        return str(error)
    if origin.new:
        return f"{NO_HEAD}: {', '.join(origin.new)} would start at random"
    head, embeddings = whole.get_output_embeddings(), whole.get_input_embeddings()
    tied = head is not None and head.weight is embeddings.weight
    setattr(whole, whole.base_model_prefix, body)
    if tied:
        head.weight = body.get_input_embeddings().weight
    return LanguageModel(whole.eval(), kind)


def _class_for(config: Any) -> tuple[Kind, Any] | None:
    """What kind of language model transformers has for a config. Encoders also have a class for the next token, but it
    would see that token; a decoder that looks both ways was made to embed texts, not to go on with them."""
    masked, causal = transformers.AutoModelForMaskedLM, transformers.AutoModelForCausalLM
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "use_bidirectional_attention", False):
        return None
    if type(config) in masked._model_mapping and not getattr(config, "is_decoder", False):
        return "masked", masked
    return ("next token", causal) if type(config) in causal._model_mapping else None


def _weights_of_head(auto: Any, config: Any) -> set[str]:
    """The names of the weights that the class with the head has beside the body's; those tied to the body's left out.
    Found on a model without memory."""
    with quiet_libraries(), torch.device("meta"):
        empty = auto.from_config(config)
    prefix = f"{empty.base_model_prefix}."
    return {name for name, _ in empty.named_parameters() if not name.startswith(prefix)}
