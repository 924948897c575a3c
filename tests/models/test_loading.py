"""From a folder and a plan's edits to a model: every weight's origin is known, nothing of the body starts at random."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from whet.errors import ModelError
from whet.models.dropout import KeyedDropout
from whet.models.load import build, length_limit, load_tokenizer
from whet.models.reference import find_model
from whet.plan.edits import NewHead, SetDropout

POOLED, NATIVE = NewHead(), NewHead(kind="native")


def changed(model: Path, folder: Path, drop: tuple[str, ...] = (), dtype: torch.dtype | None = None) -> Path:
    """A copy of a model folder without some weights, or with weights in another precision."""
    shutil.copytree(model, folder)
    weights = load_file(model / "model.safetensors")
    weights = {name: value.to(dtype) for name, value in weights.items() if name not in drop}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("head", [POOLED, NATIVE], ids=["pooled", "native"])
@pytest.mark.parametrize("lost", ["encoder.layer.2.output.dense.weight", "embeddings.word_embeddings.weight"])
def test_a_missing_weight_of_the_body_is_named(head: NewHead, lost: str, tiny_bert: Path, tmp_path: Path) -> None:
    folder = changed(tiny_bert, tmp_path / "model", drop=(lost,))
    with pytest.raises(ModelError, match="lacks 1 weights of its body") as caught:
        build(find_model(str(folder)), (head,), 3, seed=0)
    assert lost in str(caught.value)


def test_a_missing_weight_is_found_without_a_head_too(tiny_gpt2: Path, tmp_path: Path) -> None:
    lost = ("transformer.h.1.mlp.c_fc.bias", "transformer.ln_f.weight")
    folder = changed(tiny_gpt2, tmp_path / "model", drop=lost)
    with pytest.raises(ModelError, match="lacks 2 weights of its body"):
        build(find_model(str(folder)), (), 2, seed=0)


def test_a_config_of_other_sizes_is_an_error(tiny_bert: Path, tmp_path: Path) -> None:
    folder = changed(tiny_bert, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    for head in (POOLED, NATIVE):
        with pytest.raises(ModelError):
            build(find_model(str(folder)), (head,), 3, seed=0)


def test_left_over_and_new_weights_are_listed(tiny_bert: Path, tiny_gpt2: Path) -> None:
    pooled = build(find_model(str(tiny_bert)), (POOLED,), 3, seed=0).origin
    assert pooled.new == ("head.layers.1.weight", "head.layers.1.bias")
    assert pooled.left_over == ("pooler.dense.bias", "pooler.dense.weight")
    native = build(find_model(str(tiny_bert)), (NATIVE,), 3, seed=0).origin
    assert native.new == ("classifier.bias", "classifier.weight")
    assert native.left_over == ()
    assert native.loaded == pooled.loaded + 2
    assert build(find_model(str(tiny_gpt2)), (NATIVE,), 3, seed=0).origin.new == ("score.weight",)


def test_a_head_of_another_size_is_new(tiny_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    three = build(find_model(str(tiny_bert)), (NATIVE,), 3, seed=0)
    three.model.save_pretrained(folder)
    again = build(find_model(str(folder)), (NATIVE,), 3, seed=0).origin
    other = build(find_model(str(folder)), (NATIVE,), 5, seed=0)
    assert again.new == ()
    assert other.origin.new == ("classifier.bias", "classifier.weight")
    assert other.model.classifier.weight.shape == (5, 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_weights_are_trained_in_fp32_whatever_they_are_stored_in(
    dtype: torch.dtype, tiny_bert: Path, tmp_path: Path
) -> None:
    folder = changed(tiny_bert, tmp_path / "model", dtype=dtype)
    built = build(find_model(str(folder)), (POOLED,), 3, seed=0)
    assert {parameter.dtype for parameter in built.model.parameters()} == {torch.float32}
    stored = load_file(folder / "model.safetensors")["encoder.layer.0.output.dense.weight"]
    assert torch.equal(built.model.body.encoder.layer[0].output.dense.weight, stored.float())


@pytest.mark.parametrize("head", [POOLED, NATIVE, NewHead(hidden=(8, 6))], ids=["pooled", "native", "mlp"])
def test_a_new_head_comes_from_the_seed_alone(head: NewHead, tiny_bert: Path) -> None:
    source = find_model(str(tiny_bert))
    torch.manual_seed(5)
    first = build(source, (head,), 3, seed=0)
    torch.manual_seed(6)
    second, other = build(source, (head,), 3, seed=0), build(source, (head,), 3, seed=1)
    weights = [dict(built.model.named_parameters()) for built in (first, second, other)]
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name]), name
        fresh = name in first.origin.new and not name.endswith("bias")
        assert torch.equal(weights[0][name], weights[2][name]) != fresh, name


def test_every_dropout_of_the_body_is_keyed_and_attention_drops_nothing(tiny_bert: Path, tiny_gpt2: Path) -> None:
    for folder in (tiny_bert, tiny_gpt2):
        model = build(find_model(str(folder)), (NewHead(dropout=0.25),), 3, seed=0).model
        keyed = {name: module for name, module in model.named_modules() if isinstance(module, KeyedDropout)}
        assert len({module.salt for module in keyed.values()}) == len(keyed) > 6
        assert len({id(module.key) for module in keyed.values()}) == 1
        left = [module.p for module in model.modules() if type(module) is torch.nn.Dropout]
        assert set(left) <= {0.0}
        assert {module.p for name, module in keyed.items() if not name.startswith("head")} == {0.1}
        assert [module.p for name, module in keyed.items() if name.startswith("head")] == [0.25]
        assert model.body.config.to_dict().get("attention_probs_dropout_prob", 0.0) == 0.0
        assert model.body.config.to_dict().get("attn_pdrop", 0.0) == 0.0


@pytest.mark.parametrize("head", [NewHead(dropout=0.3), NATIVE], ids=["pooled", "native"])
def test_one_share_can_be_set_for_all_dropout(head: NewHead, tiny_gpt2: Path) -> None:
    model = build(find_model(str(tiny_gpt2)), (head, SetDropout(share=0.3)), 3, seed=0).model
    shares = {module.p for module in model.modules() if isinstance(module, KeyedDropout)}
    assert shares == {0.3}
    none = build(find_model(str(tiny_gpt2)), (NewHead(dropout=0.0), SetDropout(share=0.0)), 3, seed=0).model
    assert not any(isinstance(module, KeyedDropout) for module in none.modules())


def test_a_tokenizer_without_padding_pads_with_the_end_token(tiny_gpt2: Path) -> None:
    source = find_model(str(tiny_gpt2))
    tokenizer = load_tokenizer(source)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id != 0
    assert length_limit(source, tokenizer) == 96


def test_a_decoder_with_its_own_head_knows_what_pads(tiny_gpt2: Path) -> None:
    source = find_model(str(tiny_gpt2))
    model = build(source, (NATIVE,), 3, seed=0).model
    assert model.config.pad_token_id == load_tokenizer(source).pad_token_id != 0


def test_a_tokenizer_pads_on_the_right_whatever_it_was_saved_with(tiny_gpt2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_gpt2, tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    tokenizer = load_tokenizer(find_model(str(folder)))
    mask = tokenizer(["one", "two texts here"], padding=True)["attention_mask"]
    assert mask == [[1, 0, 0], [1, 1, 1]]


def test_a_folder_without_a_tokenizer_is_an_error(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_tokenizer(find_model(str(folder)))


def test_a_model_of_an_unknown_kind_is_an_error(tiny_bert: Path, tmp_path: Path) -> None:
    folder = changed(tiny_bert, tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "no_such_family"}')
    with pytest.raises(ModelError, match="cannot load the model"):
        build(find_model(str(folder)), (POOLED,), 3, seed=0)
