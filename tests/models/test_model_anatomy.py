"""A model's groups, found from its module tree and one traced pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from whet.errors import ModelError
from whet.models.anatomy import anatomy_of
from whet.models.heads import outputs_of
from whet.models.load import build, load_tokenizer
from whet.models.reference import find_model
from whet.plan.anatomy import Anatomy
from whet.plan.edits import NewHead

TOKENS = {
    "input_ids": torch.tensor([[1, 5, 6, 7], [1, 8, 9, 10]]),
    "attention_mask": torch.ones(2, 4, dtype=torch.int64),
}

EXPECTED = {
    # (model, head): entry of each block, entry of the head, parameters of the head, what stands above the last block
    ("bert", "pooled"): ("body.encoder.layer.{}", 4, "head", {"head.layers.1.weight", "head.layers.1.bias"}, set()),
    ("bert", "native"): (
        "bert.encoder.layer.{}", 4, "classifier", {"classifier.weight", "classifier.bias"},
        {"bert.pooler.dense.weight", "bert.pooler.dense.bias"},
    ),
    ("gpt2", "pooled"): (
        "body.h.{}", 3, "head", {"head.layers.1.weight", "head.layers.1.bias"}, {"body.ln_f.weight", "body.ln_f.bias"},
    ),
    ("gpt2", "native"): (
        "transformer.h.{}", 3, "score", {"score.weight"}, {"transformer.ln_f.weight", "transformer.ln_f.bias"},
    ),
}  # fmt: skip


def names_by_group(anatomy: Anatomy) -> dict[str, set[str]]:
    return {group.name: {parameter.name for parameter in group.parameters} for group in anatomy.groups}


def check_partition(anatomy: Anatomy, model: nn.Module) -> None:
    """Every parameter is in exactly one group, or idle."""
    places = [p.name for group in anatomy.groups for p in group.parameters] + [p.name for p in anatomy.idle]
    own = dict(model.named_parameters())
    assert sorted(places) == sorted(own)
    for parameter in (*anatomy.parameters, *anatomy.idle):
        assert parameter.size == own[parameter.name].numel()


@pytest.mark.parametrize(("family", "kind"), EXPECTED)
def test_groups_of_transformers(family: str, kind: str, tiny_bert: Path, tiny_gpt2: Path) -> None:
    source = find_model(str(tiny_bert if family == "bert" else tiny_gpt2))
    built = build(source, (NewHead(kind=kind),), 3, seed=0)
    inputs = load_tokenizer(source)(["one text", "another of them here"], padding=True, return_tensors="pt")
    anatomy = anatomy_of(
        built.model,
        "tiny",
        {name: inputs[name] for name in ("input_ids", "attention_mask")},
        outputs_of,
        built.origin.new,
    )
    pattern, count, entry, head, above = EXPECTED[family, kind]
    check_partition(anatomy, built.model)
    assert anatomy.idle == ()
    assert anatomy.hidden_size == 32
    groups = names_by_group(anatomy)
    assert list(groups) == ["embeddings", *(f"block {number}" for number in range(count)), "head"]
    assert [group.entry for group in anatomy.blocks] == [pattern.format(number) for number in range(count)]
    assert anatomy.head.entry == entry
    assert groups["head"] == head
    for number in range(count):
        inside = {name for name in groups[f"block {number}"] if name.startswith(pattern.format(number) + ".")}
        assert groups[f"block {number}"] - inside == (above if number == count - 1 else set())
        assert len(inside) == (16 if family == "bert" else 12)
    assert all("mbeddings" in name or ".wte." in name or ".wpe." in name for name in groups["embeddings"])


def test_kinds_of_parameters(tiny_bert: Path) -> None:
    source = find_model(str(tiny_bert))
    built = build(source, (NewHead(),), 3, seed=0)
    anatomy = anatomy_of(built.model, "tiny", TOKENS, outputs_of, built.origin.new)
    for parameter in anatomy.parameters:
        expected = "norm" if "LayerNorm" in parameter.name else "bias" if parameter.name.endswith("bias") else "weight"
        assert parameter.kind == expected, parameter.name


def test_tracing_leaves_the_model_as_it_was(tiny_gpt2: Path) -> None:
    built = build(find_model(str(tiny_gpt2)), (NewHead(),), 3, seed=0)
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    anatomy_of(built.model, "tiny", TOKENS, outputs_of, built.origin.new)
    assert not any(module.training for module in built.model.modules())
    assert all(parameter.grad is None for parameter in built.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in built.model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in built.model.modules())


@pytest.mark.parametrize("new", [(), ("lm_head.weight",)], ids=["no new head", "the tied layer is the head"])
def test_a_tied_tensor_belongs_to_its_lowest_user(new: tuple[str, ...], tiny_gpt2: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2, attn_implementation="eager")
    assert model.lm_head.weight is model.transformer.wte.weight
    anatomy = anatomy_of(model, "tiny", TOKENS, outputs_of, new)
    check_partition(anatomy, model)
    assert anatomy.group_of()["transformer.wte.weight"] == "embeddings"
    assert "lm_head.weight" not in anatomy.group_of()
    assert anatomy.head.parameters == ()


class Toy(nn.Module):
    """A model of parts: `body` is called on the embedded tokens, then `head`."""

    def __init__(self, body: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, width)
        self.body = body
        self.spare = nn.Linear(width, width)
        self.head = nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        return self.head(self.body(self.embed(input_ids)).mean(1))


def block(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


def test_what_the_forward_pass_never_reaches_is_idle() -> None:
    model = Toy(nn.Sequential(block(), block(), block()))
    anatomy = anatomy_of(model, "toy", TOKENS, outputs_of, ("head.weight", "head.bias"))
    check_partition(anatomy, model)
    assert {parameter.name for parameter in anatomy.idle} == {"spare.weight", "spare.bias"}
    assert [group.entry for group in anatomy.groups] == ["", "body.0", "body.1", "body.2", "head"]


def test_blocks_that_share_weights_belong_to_the_lowest() -> None:
    shared = block()
    model = Toy(nn.Sequential(block(), shared, block()))
    model.body[2][2].weight = model.body[1][0].weight
    anatomy = anatomy_of(model, "toy", TOKENS, outputs_of, ("head.weight", "head.bias"))
    check_partition(anatomy, model)
    assert anatomy.group_of()["body.1.0.weight"] == "block 1"
    assert {p.name for p in anatomy.group("block 2").parameters} == {
        "body.2.0.weight",
        "body.2.0.bias",
        "body.2.2.bias",
    }


class Pictures(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.body(pixels).flatten(2).mean(2))


def test_a_flat_sequence_is_divided_after_each_pooling_layer() -> None:
    layers = [
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip
    model = Pictures(nn.Sequential(*layers))
    anatomy = anatomy_of(model, "toy", {"pixels": torch.ones(2, 3, 8, 8)}, outputs_of, ("head.weight", "head.bias"))
    check_partition(anatomy, model)
    assert {name: sorted(found) for name, found in names_by_group(anatomy).items()} == {
        "block 0": ["body.0.bias", "body.0.weight", "body.2.bias", "body.2.weight"],
        "block 1": ["body.5.bias", "body.5.weight"],
        "block 2": ["body.8.bias", "body.8.weight"],
        "head": ["head.bias", "head.weight"],
    }


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, states: Tensor) -> Tensor:
        return states + self.norm(self.conv(states)).relu()


class Stages(nn.Module):
    """A stem and stages of residual layers, defined in another order than they are called in."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Sequential(Residual(), Residual())
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.early = nn.Sequential(Residual(), Residual())

    def forward(self, pixels: Tensor) -> Tensor:
        return self.late(self.early(self.stem(pixels)))


def test_stages_stand_in_call_order() -> None:
    model = Pictures(Stages())
    anatomy = anatomy_of(model, "toy", {"pixels": torch.ones(2, 3, 8, 8)}, outputs_of, ("head.weight", "head.bias"))
    check_partition(anatomy, model)
    assert [group.entry for group in anatomy.blocks] == ["body.early", "body.late"]
    assert names_by_group(anatomy)["embeddings"] == {"body.stem.weight", "body.stem.bias"}
    assert {p.kind for p in anatomy.parameters if ".norm." in p.name} == {"norm"}


class Inverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Residual(), Residual())

    def forward(self, states: Tensor) -> Tensor:
        return states + self.layers(states)


class Mobile(nn.Module):
    """MobileNet's form: a stem and unlike blocks in one Sequential, and a classifier that outweighs them."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.features = nn.Sequential(stem, Inverted(), nn.Sequential(Inverted(), Inverted()), Inverted())
        self.classifier = nn.Sequential(nn.Linear(4, 4000), nn.ReLU(), nn.Dropout(), nn.Linear(4000, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classifier(self.features(pixels).flatten(2).mean(2))


def test_a_stem_is_no_block_and_a_wide_classifier_hides_none() -> None:
    model, pixels = Mobile(), {"pixels": torch.ones(2, 3, 8, 8)}
    anatomy = anatomy_of(model, "toy", pixels, outputs_of, ("classifier.3.weight", "classifier.3.bias"))
    check_partition(anatomy, model)
    assert [(group.name, group.entry) for group in anatomy.groups] == [
        ("embeddings", ""), ("block 0", "features.1"), ("block 1", "features.2"), ("block 2", "features.3"),
        ("head", "classifier.3"),
    ]  # fmt: skip
    groups = names_by_group(anatomy)
    assert groups["embeddings"] == {f"features.0.{own}" for own in ("0.weight", "0.bias", "1.weight", "1.bias")}
    assert {"classifier.0.weight", "classifier.0.bias"} <= groups["block 2"]


def test_a_head_of_several_layers_is_entered_as_one_module() -> None:
    model, pixels = Mobile(), {"pixels": torch.ones(2, 3, 8, 8)}
    new = [f"classifier.{own}" for own, _ in model.classifier.named_parameters()]
    assert anatomy_of(model, "toy", pixels, outputs_of, new).head.entry == "classifier"


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 500), nn.Linear(500, 4)

    def forward(self, states: Tensor) -> Tensor:
        return self.second(self.first(states).relu())


class Wide(nn.Module):
    """A flat Sequential, then a module of two layers that holds nearly all numbers."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [[nn.Conv2d(width, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)] for width in (3, 4, 4)]
        self.features = nn.Sequential(*[layer for layers in convolutions for layer in layers])
        self.wide = TwoLayers()
        self.head = nn.Linear(4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.wide(self.features(pixels).flatten(1)))


def test_wide_layers_above_a_flat_sequence_are_a_block_of_their_own() -> None:
    model, pixels = Wide(), {"pixels": torch.ones(2, 3, 8, 8)}
    anatomy = anatomy_of(model, "toy", pixels, outputs_of, ("head.weight", "head.bias"))
    check_partition(anatomy, model)
    assert [group.entry for group in anatomy.groups] == ["features.0", "features.3", "features.6", "wide", "head"]


def test_tracing_moves_no_statistics_in_training_mode() -> None:
    model = Mobile().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    anatomy_of(model, "toy", {"pixels": torch.ones(2, 3, 8, 8)}, outputs_of, ("classifier.3.weight",))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


class Deaf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        return input_ids.float().requires_grad_()


def test_a_model_that_uses_no_parameter_is_an_error() -> None:
    with pytest.raises(ModelError, match="reaches none of its parameters"):
        anatomy_of(Deaf(), "deaf", TOKENS, outputs_of, ())
