"""A checkpoint's own language-model head is found where there is one, and put on a tuned body without changing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from whet.models.language import LanguageModel, language_model
from whet.models.load import load_as, quiet_libraries
from whet.models.reference import ModelFolder

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
DECODER = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 0}
MODERN = {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50}
DEBERTA = {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50}
CLASSES: dict[str, tuple[str, dict[str, Any], str]] = {
    "BertForMaskedLM": ("BertConfig", SIZES, "masked"),
    "RobertaForMaskedLM": ("RobertaConfig", SIZES, "masked"),
    "DistilBertForMaskedLM": ("DistilBertConfig", DISTIL, "masked"),
    "ElectraForMaskedLM": ("ElectraConfig", {**SIZES, "embedding_size": 8}, "masked"),
    "ModernBertForMaskedLM": ("ModernBertConfig", MODERN, "masked"),
    "DebertaV2ForMaskedLM": ("DebertaV2Config", DEBERTA, "masked"),
    "GPT2LMHeadModel": ("GPT2Config", GPT2, "next token"),
    "LlamaForCausalLM": ("LlamaConfig", DECODER, "next token"),
    "Qwen3ForCausalLM": ("Qwen3Config", {**DECODER, "head_dim": 8}, "next token"),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {**DECODER, "head_dim": 8, "query_pre_attn_scalar": 8}, "next token"),
    "OPTForCausalLM": ("OPTConfig", {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 8}, "next token"),
}
INPUTS = {"input_ids": torch.tensor([[1, 5, 6, 7, 8, 9, 9, 2]]), "attention_mask": torch.ones(1, 8, dtype=torch.long)}


def saved(name: str, folder: Path, **more: Any) -> tuple[Any, ModelFolder]:
    """A small random model of a class, and the folder that it was saved in."""
    import transformers

    config = getattr(transformers, CLASSES[name][0])(**CLASSES[name][1], **more)
    torch.manual_seed(0)
    with quiet_libraries():
        model = getattr(transformers, name)(config).eval()
        model.save_pretrained(folder)
    return model, ModelFolder(name, folder, "", None)


def body_of(source: ModelFolder) -> tuple[Any, tuple[str, ...]]:
    import transformers

    body, origin = load_as(source, transformers.AutoModel)
    return body.eval(), origin.left_over


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**INPUTS).logits


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_on_the_pretrained_body_it_predicts_what_its_own_class_does(name: str, tied: bool, tmp_path: Path) -> None:
    model, source = saved(name, tmp_path, tie_word_embeddings=tied)
    found = language_model(source, *body_of(source))
    assert isinstance(found, LanguageModel), found
    assert found.kind == CLASSES[name][2]
    torch.testing.assert_close(logits(found.model), logits(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BertForMaskedLM"])
def test_a_tuned_body_is_read_through_the_head_that_transformers_would_give_it(
    name: str, tied: bool, tmp_path: Path
) -> None:
    """A tied head is the body's own table of embeddings, and moves with it; another one stays as it was."""
    import transformers

    model, source = saved(name, tmp_path / "pretrained", tie_word_embeddings=tied)
    body, left_over = body_of(source)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    before = {key: value.clone() for key, value in body.state_dict().items()}
    found = language_model(source, body, left_over)
    assert isinstance(found, LanguageModel)
    setattr(model, model.base_model_prefix, body)
    model.tie_weights()
    model.save_pretrained(tmp_path / "tuned")
    with quiet_libraries():
        again = getattr(transformers, name).from_pretrained(tmp_path / "tuned").eval()
    torch.testing.assert_close(logits(found.model), logits(again), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
    assert body.get_input_embeddings().weight.requires_grad


def test_an_encoder_saved_without_its_head_has_none_and_nothing_is_loaded(tiny_bert: Path) -> None:
    source = ModelFolder("tiny", tiny_bert, "", None)
    assert language_model(source, *body_of(source)) == "its checkpoint has no language-model head"


def test_a_decoder_saved_without_a_head_of_its_own_has_none(tmp_path: Path) -> None:
    model, source = saved("LlamaForCausalLM", tmp_path, tie_word_embeddings=False)
    model.model.save_pretrained(tmp_path)
    assert language_model(source, *body_of(source)) == "its checkpoint has no language-model head"


def test_a_decoder_saved_as_a_body_keeps_a_head_that_is_its_embeddings(tmp_path: Path) -> None:
    model, source = saved("GPT2LMHeadModel", tmp_path)
    model.transformer.save_pretrained(tmp_path)
    found = language_model(source, *body_of(source))
    assert isinstance(found, LanguageModel)
    torch.testing.assert_close(logits(found.model), logits(model), rtol=1e-5, atol=1e-6)


def test_a_head_of_which_a_part_is_missing_is_not_used(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _, source = saved("BertForMaskedLM", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "transform.dense" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert "would start at random" in str(language_model(source, *body_of(source)))


def test_what_transformers_knows_no_language_model_of_has_none() -> None:
    class Config:
        is_encoder_decoder = False

    body = nn.Identity()
    body.config = Config()  # type: ignore[assignment]
    source = ModelFolder("none", Path("none"), "", None)
    assert language_model(source, body, ()) == "transformers has no language model of its kind"


def test_a_decoder_that_looks_both_ways_is_not_asked_for_the_next_token(tmp_path: Path) -> None:
    _, source = saved("Gemma3ForCausalLM", tmp_path, use_bidirectional_attention=True)
    assert language_model(source, *body_of(source)) == "transformers has no language model of its kind"
