"""Putting adapters into a model: which layers get one, from which chance, and what a trial finds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from whet.errors import ModelError, PathError, SettingsError, StrategyError
from whet.models.adapters import Prompted, put_in, try_out
from whet.models.heads import Pooled
from whet.models.load import Built, build, length_limit, load_tokenizer
from whet.models.reference import find_model
from whet.plan.edits import Adapter, LowRank, NewHead, Prefix, Prompt, QuantizeBody

TOKENS = {
    "input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 10, 11]]),
    "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
}


def built(folder: Path, edit: Adapter, seed: int = 0, kind: Any = "pooled") -> Built:
    return build(find_model(str(folder)), (NewHead(kind=kind), edit), 3, seed)


def adapted_layers(model: torch.nn.Module) -> set[str]:
    return {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}


@pytest.mark.parametrize(
    ("edit", "per_block"),
    [
        (LowRank(), {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"}),
        (LowRank(targets=("query", "value")), {"query", "value"}),
        (LowRank(targets=("attention.output.dense",)), {"attention.output.dense"}),
        (LowRank(targets=("*.attention.*",)), {"query", "key", "value", "attention.output.dense"}),
    ],
    ids=["all", "last parts", "more parts", "pattern"],
)
def test_targets_name_layers(edit: LowRank, per_block: set[str], tiny_bert: Path) -> None:
    found = adapted_layers(built(tiny_bert, edit).model)
    assert len(found) == 4 * len(per_block)
    assert all(any(name.endswith(f".{part}") for part in per_block) for name in found)


def test_adapters_stay_within_the_modules_that_are_named(tiny_bert: Path) -> None:
    found = adapted_layers(built(tiny_bert, LowRank(within=("body.encoder.layer.1",))).model)
    assert len(found) == 6
    assert all(name.startswith("body.encoder.layer.1.") for name in found)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (LowRank(targets=("qeury",)), "'qeury' names none of the 24 linear layers"),
        (LowRank(targets=("qeury",)), "did you mean query?"),
        (LowRank(targets=("query", "head*")), "'head*' names none"),
        (LowRank(within=("body.embeddings",)), "has no linear layers in body.embeddings"),
    ],
)
def test_what_names_no_layer_is_refused(edit: LowRank, says: str, tiny_bert: Path) -> None:
    with pytest.raises(StrategyError) as caught:
        built(tiny_bert, edit)
    assert says in str(caught.value)


@pytest.mark.parametrize("edit", [LowRank(), LowRank(dora=True), Prefix(), Prompt()], ids=lambda edit: edit.edit)
def test_an_adapter_comes_from_the_seed_alone(edit: Adapter, tiny_bert: Path) -> None:
    torch.manual_seed(5)
    first = built(tiny_bert, edit)
    torch.manual_seed(6)
    second, other = built(tiny_bert, edit), built(tiny_bert, edit, seed=1)
    weights = [dict(one.model.named_parameters()) for one in (first, second, other)]
    assert first.adapted is not None
    for name in first.adapted.added:
        assert torch.equal(weights[0][name], weights[1][name]), name
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in first.adapted.added)


@pytest.mark.parametrize("kind", ["pooled", "native"])
def test_what_is_new_is_known_and_the_body_keeps_its_names(kind: str, tiny_bert: Path) -> None:
    plain = build(find_model(str(tiny_bert)), (NewHead(kind=kind),), 3, 0)  # type: ignore[arg-type]
    made = built(tiny_bert, LowRank(targets=("query",)), kind=kind)
    assert made.adapted is not None
    assert len(made.adapted.added) == 4 * 2
    assert len(made.adapted.head) == len(plain.origin.new)
    assert set(made.origin.new) == {*made.adapted.added, *made.adapted.head}
    names = {name.replace(".base_layer", "") for name, _ in made.model.named_parameters()}
    body = {name for name, _ in plain.model.named_parameters() if name not in plain.origin.new}
    assert body <= names
    assert all(parameter.requires_grad for parameter in made.model.parameters())


def test_a_head_that_came_with_the_model_is_kept_with_the_adapter(tiny_bert: Path, tmp_path: Path) -> None:
    native = build(find_model(str(tiny_bert)), (NewHead(kind="native"),), 3, 0)
    native.model.save_pretrained(tmp_path / "model")
    load_tokenizer(find_model(str(tiny_bert))).save_pretrained(tmp_path / "model")
    made = built(tmp_path / "model", LowRank(), kind="native")
    assert made.adapted is not None
    assert set(made.origin.new) == set(made.adapted.added)
    kept = dict(made.model.named_parameters())
    for own, name in zip(native.origin.new, sorted(made.adapted.head), strict=True):
        assert torch.equal(kept[name], dict(native.model.named_parameters())[own])


def test_virtual_tokens_are_not_pooled(tiny_bert: Path) -> None:
    model = built(tiny_bert, Prompt(tokens=5)).model
    assert isinstance(model, Prompted)
    with torch.no_grad():
        states = model.states(TOKENS)
        assert states.shape == (2, 4, 32)
        shorter = model.states({name: value[:1, :3] for name, value in TOKENS.items()})
    torch.testing.assert_close(states[:1, :3], shorter)


def test_virtual_tokens_stand_before_another_head_too(tiny_bert: Path) -> None:
    model = built(tiny_bert, Prefix(tokens=5)).model
    assert isinstance(model, Pooled)
    other = model.with_head(model.head)
    with torch.no_grad():
        assert torch.equal(other(**TOKENS), model(**TOKENS))


@pytest.mark.parametrize("edit", [Prefix(), Prompt()], ids=["prefix", "prompt"])
def test_virtual_tokens_with_a_native_head_are_refused_with_the_reason(edit: Adapter, tiny_gpt2: Path) -> None:
    with pytest.raises(StrategyError, match=r"GPT2ForSequenceClassification.*take --head linear"):
        built(tiny_gpt2, edit, kind="native")


def test_an_adapter_on_a_model_kept_to_a_depth_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(StrategyError, match="kept to a depth"):
        build(find_model(str(tiny_bert)), (NewHead(depth=2), LowRank()), 3, 0)


class ReadsPadding(torch.nn.Module):
    """Takes the last place of a text for its end, padding or not."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, **inputs: Tensor) -> Tensor:
        made: Tensor = self.body(**inputs).last_hidden_state[:, -1, :3]
        return made


class LeavesOut(torch.nn.Module):
    """Computes the same whatever is added to its body."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body, self.out = body, torch.nn.Linear(1, 3)

    def forward(self, **inputs: Tensor) -> Tensor:
        made: Tensor = self.out(inputs["attention_mask"].sum(1, keepdim=True).float())
        return made


class Fails(ReadsPadding):
    def forward(self, **inputs: Tensor) -> Tensor:
        raise TypeError("unexpected past_key_values\nand a second line")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (ReadsPadding, "padding a text changed its outputs"),
        (LeavesOut, "took no part in the outputs"),
        (Fails, "a trial failed: unexpected past_key_values"),
    ],
)
def test_a_trial_refuses_what_would_go_wrong(kind: Any, says: str, tiny_bert: Path) -> None:
    made = built(tiny_bert, LowRank())
    assert made.adapted is not None
    try_out(made.model, made.adapted, TOKENS, "tiny")
    broken = kind(made.model.body).eval()
    with pytest.raises(StrategyError) as caught:
        try_out(broken, made.adapted, TOKENS, "tiny")
    assert says in str(caught.value)
    assert "second line" not in str(caught.value)
    assert "lora cannot be used with tiny" in str(caught.value)


def test_a_trial_leaves_the_model_as_it_was(tiny_bert: Path) -> None:
    made = built(tiny_bert, Prompt())
    assert made.adapted is not None
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    try_out(made.model, made.adapted, TOKENS, "tiny")
    assert all(parameter.grad is None for parameter in made.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())


def test_virtual_tokens_take_positions_from_the_text(tiny_bert: Path) -> None:
    source = find_model(str(tiny_bert))
    tokenizer = load_tokenizer(source)
    assert length_limit(source, tokenizer) == 96
    assert length_limit(source, tokenizer, 16) == 80
    assert length_limit(source, tokenizer, 3) == 88  # padding to a multiple of 8 takes positions too
    with pytest.raises(StrategyError, match="90 virtual tokens leave no room for a text in the 96 positions"):
        length_limit(source, tokenizer, 90)


def test_the_longest_text_fits_beside_virtual_tokens(tiny_bert: Path) -> None:
    source = find_model(str(tiny_bert))
    longest = length_limit(source, load_tokenizer(source), 13)
    inputs = {name: torch.ones(1, longest, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    for edit in (Prefix(tokens=13), Prompt(tokens=13)):
        with torch.no_grad():
            assert built(tiny_bert, edit).model(**inputs).shape == (1, 3)


@pytest.mark.parametrize(("kind", "library"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_library_that_is_not_there_is_named_with_its_cure(
    kind: Any, library: str, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (library, f"{library}.quantization", f"{library}.nn"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=rf"quantize_body = {kind} needs {library}.*pip install 'whet\[{kind}\]'"):
        build(find_model(str(tiny_bert)), (NewHead(), QuantizeBody(to=kind), LowRank()), 3, 0)


def test_a_body_without_linear_layers_cannot_be_rounded(tiny_gpt2: Path) -> None:
    with pytest.raises(StrategyError, match="no layers of the kind that torchao rounds"):
        build(find_model(str(tiny_gpt2)), (NewHead(), QuantizeBody(to="int8"), LowRank()), 3, 0)


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(PathError, match="holds an adapter, which is no model by itself"):
        find_model(str(tmp_path))
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(PathError, match="merge=True"):
        find_model(str(tmp_path / "run"))


def test_a_head_that_peft_would_not_copy_whole_is_an_error(tiny_bert: Path) -> None:
    made = build(find_model(str(tiny_bert)), (NewHead(kind="native"),), 3, 0)
    with pytest.raises(ModelError, match=r"differ in classifier\.weight"):
        put_in(made.model, LowRank(), ("classifier.weight",), 0, "tiny")
