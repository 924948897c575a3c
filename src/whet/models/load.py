"""From a model folder and a plan's edits to a model ready to train, and from it back to a folder."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from whet.errors import ModelError, StrategyError
from whet.models.adapter_files import Base, base_of, load_adapter, save_adapter
from whet.models.adapters import Adapted, copies, first_line, put_in, transformer_of
from whet.models.dropout import Key, key_dropouts
from whet.models.heads import Head, Output, Per, Pooled, start
from whet.models.quantize import quantize_body
from whet.models.quiet import quiet_libraries
from whet.models.reference import ModelFolder
from whet.plan.edits import Adapter, Edit, NewHead, QuantizeBody, SetDropout

NATIVE: dict[Per, Any] = {
    "row": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
}
STEP = 8
"""Texts are padded to a multiple of this, and beside virtual tokens padding takes positions of its own."""


@dataclass(frozen=True)
class Origin:
    """Where each weight of a built model came from: the checkpoint, new, or left over in the checkpoint."""

    loaded: int
    new: tuple[str, ...]
    left_over: tuple[str, ...]


@dataclass
class Built:
    """A model with its edits applied, in eval mode. `key` steers its keyed dropout; `kept` names the parameters of a
    head that came with the model. `adapted` is what stands beside a model with an adapter, `quantized` says how its
    body was rounded; both None where there is no such thing."""

    model: nn.Module
    head: NewHead
    origin: Origin
    key: Key
    kept: tuple[str, ...] = ()
    adapted: Adapted | None = None
    quantized: QuantizeBody | None = None


@singledispatch
def load_tokenizer(source: Any) -> Any:
    """The tokenizer of a model. Raises `ModelError` when there is none that can be read."""
    try:
        with quiet_libraries():
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the model {source.reference} has no tokenizer that can be read: {first_line(error)}"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # Where its files are missing, transformers makes an empty one without a word.
        raise ModelError(f"the model {source.reference} has no tokenizer: its folder lacks the files of one")
    return ready_to_pad(tokenizer, source.reference)


def ready_to_pad(tokenizer: Any, reference: str) -> Any:
    """The tokenizer, set to pad as whet does: on the right, with a token that it has."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer of {reference} has neither a padding nor an end token")
        # Padding is masked in attention and pooling, so which token pads changes no result here.
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # as whet pads; who uses the saved model without it then does the same
    return tokenizer


@singledispatch
def length_limit(source: Any, tokenizer: Any, virtual: int = 0) -> int:
    """The most tokens of a text that the model takes: the smaller of its positions, less those of `virtual` tokens, and
    its tokenizer's limit, at most 100,000. Raises `StrategyError` where virtual tokens leave no room."""
    config = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    positions = config.get("max_position_embeddings") or config.get("n_positions") or 100_000
    if "roberta" in config.get("model_type", "") or config.get("model_type") in ("camembert", "longformer", "xlm"):
        positions -= (config.get("pad_token_id") or 0) + 1
    room = (positions - virtual) // STEP * STEP if virtual else positions
    if room <= 0:
        raise StrategyError(
            f"{virtual} virtual tokens leave no room for a text in the {positions} positions of {source.reference}; "
            "take fewer"
        )
    return int(min(room, tokenizer.model_max_length, 100_000))


@singledispatch
def build(source: Any, edits: tuple[Edit, ...], outputs: int, seed: int, per: Per = "row") -> Built:
    """Load the body and apply the edits. `outputs` is the head's width, for each row or token; `seed` starts its
    weights.

    Raises `ModelError` when the folder's weights do not make a whole body.
    """
    head = next((edit for edit in edits if isinstance(edit, NewHead)), NewHead())
    if head.kind == "native":
        model, origin = load_as(source, NATIVE[per], num_labels=outputs)
        for name in origin.new:
            owner = model.get_submodule(name.rpartition(".")[0])
            start(owner, seed)
        # Decoders classify by the last token that is no padding: they have to know what pads here.
        model.config.pad_token_id = load_tokenizer(source).pad_token_id
    else:
        body, origin = load_as(source, transformers.AutoModel)
        if head.depth is not None:
            keep_blocks(body, head.depth, source.reference)
        width = getattr(body.config, "hidden_size", None)
        if not isinstance(width, int):
            raise ModelError(f"{source.reference}: its config has no hidden_size; use --head native")
        head = head.model_copy(update={"pooling": head.pooling or _pooling(source, body)})
        layer = Head(width, outputs, head)
        start(layer, seed)
        model = Pooled(body, layer, head.pooling or "mean", per)
        fresh = tuple(f"head.{name}" for name, _ in layer.named_parameters())
        origin = Origin(origin.loaded, fresh, origin.left_over)
    quantized = next((edit for edit in edits if isinstance(edit, QuantizeBody)), None)
    if quantized:
        quantize_body(transformer_of(model), quantized.to, source.reference)
    change_dropout(model, edits)
    adapted, edit = None, next((edit for edit in edits if isinstance(edit, Adapter)), None)
    if edit:
        if head.depth is not None:
            raise StrategyError("an adapter is saved beside the whole model, so there is none for one kept to a depth")
        model, adapted = put_in(model, edit, origin.new or outside_body(model), seed, source.reference)
        origin = replace(origin, new=(*(adapted.head if origin.new else ()), *adapted.added))
    key = key_dropouts(model)
    return Built(model.eval(), head, origin, key, adapted=adapted, quantized=quantized)


def tells_segments(model: Any, tokenizer: Any) -> bool:
    """Whether a model of transformers has more than one embedding for the segments of a pair, and its tokenizer makes
    them unasked, as it then does without whet too."""
    config = getattr(getattr(model, "body", model), "config", None)
    return (getattr(config, "type_vocab_size", 0) or 0) > 1 and "token_type_ids" in tokenizer.model_input_names


def outside_body(model: Any) -> tuple[str, ...]:
    """The parameters of a classifier of transformers that are not its body's."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return tuple(name for name, _ in model.named_parameters() if not name.startswith(prefix))


def change_dropout(model: nn.Module, edits: tuple[Edit, ...]) -> None:
    """Set the share of every dropout that drops anything, where an edit says so."""
    for edit in edits:
        if isinstance(edit, SetDropout):
            for module in model.modules():
                if isinstance(module, nn.Dropout) and module.p > 0:
                    module.p = edit.share


def load_as(source: ModelFolder, auto: Any, **options: Any) -> tuple[Any, Origin]:
    """The folder's model as the class that one of transformers' Auto classes names for its config, in fp32.

    Raises `ModelError` when there is no such class, or the weights do not make a whole body.
    """
    try:
        with quiet_libraries():
            config = transformers.AutoConfig.from_pretrained(source.folder, local_files_only=True)
            kind = auto._model_mapping[type(config)]
            kind = kind[0] if isinstance(kind, tuple | list) else kind
            if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
                options["add_pooling_layer"] = False
            # Attention dropout through the fused kernels is slow on a CPU and cannot be keyed
            # (docs/decisions/0004-dropout.md); the saved config keeps the model's own value.
            for name in attention_dropouts(config):
                setattr(config, name, 0.0)
            config.num_labels = options.pop("num_labels", config.num_labels)
            model, info = kind.from_pretrained(
                source.folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
                ignore_mismatched_sizes=auto in NATIVE.values(),
                output_loading_info=True,
                **options,
            )
    except KeyError as error:
        raise ModelError(f"{source.reference}: transformers knows no class of this kind for {error}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model {source.reference}: {first_line(error)}") from error
    missing = {*info["missing_keys"], *(mismatch[0] for mismatch in info.get("mismatched_keys", ()))}
    prefix = f"{model.base_model_prefix}."
    has_prefix = hasattr(model, model.base_model_prefix) and model.base_model is not model
    body_missing = sorted(name for name in missing if not has_prefix or name.startswith(prefix))
    if body_missing:
        raise ModelError(
            f"{source.reference} lacks {len(body_missing)} weights of its body, for example {body_missing[0]}: "
            "they would start at random. Is the folder complete, and does config.json belong to these weights?"
        )
    names = {name for name, _ in model.named_parameters()}
    left = tuple(sorted(info["unexpected_keys"]))
    return model, Origin(len(names - missing), tuple(sorted(missing & names)), left)


def keep_blocks(body: Any, depth: int, reference: str) -> None:
    """Keep the first `depth` blocks of a body, and say so in its config, so that it loads as it is."""
    count = getattr(body.config, "num_hidden_layers", None)
    chains = [(n, m) for n, m in body.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if len(chains) != 1:
        raise ModelError(f"{reference}: its blocks cannot be counted from its config, so it cannot be used to a depth")
    name, chain = chains[0]
    parent, _, own = name.rpartition(".")
    setattr(body.get_submodule(parent), own, nn.ModuleList(list(chain)[:depth]))
    body.config.num_hidden_layers = depth
    if getattr(body.config, "layer_types", None):
        body.config.layer_types = body.config.layer_types[:depth]


def attention_dropouts(config: Any) -> list[str]:
    """The fields of a config that drop attention weights, whatever the family calls them."""
    known = config.to_dict()
    return [name for name, value in known.items() if "drop" in name and "att" in name and isinstance(value, float)]


def _pooling(source: ModelFolder, body: Any) -> str:
    """Mean for encoders, the last token for decoders, unless the folder says what the model was made for."""
    causal = any("CausalLM" in str(name) or "LMHead" in str(name) for name in body.config.architectures or ())
    return source.pooling or ("last" if causal or getattr(body.config, "is_decoder", False) else "mean")


@singledispatch
def save(
    source: Any, built: Built, tokenizer: Any, output: Output, folder: Path, note: str, task: dict[str, Any]
) -> None:
    """Write the model so that plain transformers loads it: body and tokenizer, and for a pooled head
    `head.safetensors` and `head.json`; `note` becomes the folder's README, and `task` is kept in head.json, with its
    name and what it learnt beside weights. Of a model with an adapter the adapter is written in the place of the body,
    as plain peft loads it, and head.json names the model that it belongs to."""
    facts = head_facts(output, task) | built.head.model_dump(mode="json")
    if built.adapted is None:
        save_whole(source, built, output, folder)
    else:
        save_adapter(built.adapted, source, folder)
        facts["base"] = Base.of(source, built.quantized).model_dump(mode="json")
    with quiet_libraries():
        tokenizer.save_pretrained(folder)
    (folder / "head.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if isinstance(built.model, Pooled):
        tensors = {name: value.contiguous() for name, value in built.model.head.state_dict().items()}
        save_file(tensors, folder / "head.safetensors")
    (folder / "README.md").write_text(note, encoding="utf-8")


def head_facts(output: Output, task: dict[str, Any]) -> dict[str, Any]:
    """What head.json says of any head."""
    return {"format": 1, "labels": list(output.labels), "per": output.per, "task": task}


def save_whole(source: ModelFolder, built: Built, output: Output, folder: Path) -> None:
    """The body, or with a head of its own class the whole model, as plain transformers saves it."""
    own = transformers.AutoConfig.from_pretrained(source.folder, local_files_only=True)
    part = transformer_of(built.model)
    assert isinstance(part, transformers.PreTrainedModel)
    for name in attention_dropouts(own):
        setattr(part.config, name, getattr(own, name))
    if not isinstance(built.model, Pooled):
        part.config.id2label = dict(enumerate(output.labels))
        part.config.label2id = {label: number for number, label in enumerate(output.labels)}
        part.config.problem_type = output.problem_type
    with quiet_libraries():
        part.save_pretrained(folder)
    for name in attention_dropouts(own):
        setattr(part.config, name, 0.0)


def load_result(folder: Path) -> tuple[nn.Module, Any, tuple[str, ...]]:
    """The model that `save` wrote, in eval mode, with its tokenizer and labels.

    Raises `ModelError` where a weight is missing, and where the model that an adapter belongs to is gone or another.
    """
    facts = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    labels, per = tuple(facts["labels"]), facts["per"]
    here, base = ModelFolder(str(folder), folder, "", None), base_of(facts, folder)
    edits: tuple[Edit, ...] = (NewHead.model_validate({n: v for n, v in facts.items() if n in NewHead.model_fields}),)
    if base and base.quantized:
        edits = (*edits, base.quantized)
    built = build(base.find(folder) if base else here, edits, len(labels), seed=0, per=per)
    if isinstance(built.model, Pooled):
        built.model.head.load_state_dict(load_file(folder / "head.safetensors"))
    model = load_adapter(built.model, folder) if base else built.model
    lacking = [] if isinstance(model, Pooled) else [name for name in built.origin.new if name not in copies(model)]
    if lacking:
        raise ModelError(f"{folder} lacks the weights of its head: {', '.join(lacking)}")
    return model.eval(), load_tokenizer(here), labels
