"""Expected anatomies as data: small random models of many families, from their configs, divided by structure alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from whet.models.anatomy import anatomy_of
from whet.models.cut import find_cut
from whet.models.quiet import quiet_libraries
from whet.plan.anatomy import Anatomy

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
DECODER = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 0}
TOKENS = {
    "input_ids": torch.tensor([[1, 5, 6, 7, 2, 0, 0, 0], [1, 5, 6, 7, 8, 9, 9, 2]]),
    "attention_mask": torch.tensor([[1] * 5 + [0] * 3, [1] * 8]),
}


def pictures(size: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))}


@dataclass(frozen=True)
class Family:
    """`model` and `config` name classes of transformers. `counts` are the parameters of each group, in order; `cuts`
    the groups at which the model can be divided."""

    model: str
    config: str
    options: dict[str, Any]
    entry: str
    counts: tuple[int, ...]
    cuts: tuple[str, ...] = ("block 0", "block 1", "block 2", "head")
    inputs: Callable[[], dict[str, Tensor]] = lambda: TOKENS
    head: tuple[str, ...] = ("classifier", "pre_classifier", "score", "head")


FAMILIES = {
    "bert": Family("BertForSequenceClassification", "BertConfig", SIZES, "bert.encoder.layer", (5, 16, 16, 18, 2)),
    "roberta": Family(
        "RobertaForSequenceClassification", "RobertaConfig", SIZES, "roberta.encoder.layer", (5, 16, 16, 16, 4)
    ),
    "distilbert": Family(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50},
        "distilbert.transformer.layer",
        (4, 16, 16, 16, 4),
    ),
    "modernbert": Family(
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        "model.layers",
        (2, 5, 6, 7, 4),
    ),
    # The table of relative positions is read, not called: it counts as the lowest group, where nothing is cut below.
    "deberta-v2": Family(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {
            **SIZES,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
        },
        "deberta.encoder.layer",
        (7, 16, 16, 18, 2),
    ),
    "electra": Family(
        "ElectraForSequenceClassification",
        "ElectraConfig",
        {**SIZES, "embedding_size": 8},
        "electra.encoder.layer",
        (7, 16, 16, 16, 4),
    ),
    "gpt2": Family(
        "GPT2ForSequenceClassification",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 50, "pad_token_id": 0},
        "transformer.h",
        (2, 12, 12, 14, 1),
    ),
    "llama": Family("LlamaForSequenceClassification", "LlamaConfig", DECODER, "model.layers", (1, 9, 9, 10, 1)),
    "qwen3": Family(
        "Qwen3ForSequenceClassification", "Qwen3Config", {**DECODER, "head_dim": 8}, "model.layers", (1, 11, 11, 12, 1)
    ),
    "gemma3": Family(
        "Gemma3TextForSequenceClassification",
        "Gemma3TextConfig",
        {**DECODER, "head_dim": 8, "query_pre_attn_scalar": 8},
        "model.layers",
        (1, 13, 13, 14, 1),
    ),
    # The first block makes the position bias for all others: a trial shows that only the cut before it is exact.
    "t5 encoder": Family(
        "T5EncoderModel",
        "T5Config",
        {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "vocab_size": 50},
        "encoder.block",
        (1, 9, 8, 9, 0),
        cuts=("block 0",),
        head=(),
    ),
    "vit": Family(
        "ViTForImageClassification",
        "ViTConfig",
        {**{k: v for k, v in SIZES.items() if k != "vocab_size"}, "image_size": 8, "patch_size": 4},
        "vit.layers",
        (4, 16, 16, 18, 2),
        inputs=lambda: pictures(8),
    ),
    "resnet": Family(
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 24], "depths": [1, 2, 2, 1], "layer_type": "basic"},
        "resnet.encoder.stages",
        (3, 6, 15, 15, 9, 2),
        cuts=("block 0", "block 1", "block 2", "block 3", "head"),
        inputs=lambda: pictures(32),
    ),
}


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    made = model(**inputs)
    if isinstance(made, Tensor):
        return made
    return made.logits if hasattr(made, "logits") else made.last_hidden_state


def built(family: Family) -> nn.Module:
    import transformers

    config = getattr(transformers, family.config)(**family.options)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    with quiet_libraries():
        return getattr(transformers, family.model)(config).eval()


def divided(model: nn.Module, name: str, inputs: dict[str, Tensor], head: tuple[str, ...]) -> Anatomy:
    new = [own for own, _ in model.named_parameters() if own.split(".")[0] in head]
    return anatomy_of(model, name, inputs, forward, new)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_divided_as_expected(name: str) -> None:
    family = FAMILIES[name]
    model = built(family)
    anatomy = divided(model, name, family.inputs(), family.head)
    blocks = len(anatomy.blocks)
    assert [group.name for group in anatomy.groups] == ["embeddings", *(f"block {n}" for n in range(blocks)), "head"]
    assert [group.entry for group in anatomy.blocks] == [f"{family.entry}.{number}" for number in range(blocks)]
    assert tuple(len(group.parameters) for group in anatomy.groups) == family.counts
    assert anatomy.idle == ()
    names = [parameter.name for parameter in anatomy.parameters]
    assert sorted(names) == sorted(own for own, _ in model.named_parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_where_a_family_can_be_cut(name: str) -> None:
    family = FAMILIES[name]
    model = built(family)
    anatomy = divided(model, name, family.inputs(), family.head)
    if name == "t5 encoder":
        model = StatesOf(model)
        anatomy = divided(model, name, family.inputs(), family.head)
    found = tuple(g.name for g in anatomy.groups if find_cut(model, anatomy, g.name, family.inputs()))
    assert found == family.cuts


class StatesOf(nn.Module):
    """A body without a head, giving its last states."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.body(**inputs).last_hidden_state


class Vgg(nn.Module):
    """VGG's form: a flat Sequential of convolutions and pooling, then a Sequential of linear layers."""

    def __init__(self, *, norms: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for size in (8, 8, "pool", 16, "pool", 16, "pool"):
            if isinstance(size, int):
                layers += [nn.Conv2d(width, size, 3, padding=1), *([nn.BatchNorm2d(size)] if norms else []), nn.ReLU()]
                width = size
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5))

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(pixel_values)), 1))


@pytest.mark.parametrize(("norms", "counts"), [(False, (4, 2, 4, 2)), (True, (8, 4, 6, 2))])
def test_a_flat_sequential_is_divided_after_each_pooling_layer(norms: bool, counts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = Vgg(norms=norms).eval()
    anatomy = anatomy_of(model, "vgg", pictures(16), forward, ["classifier.3.weight", "classifier.3.bias"])
    assert [group.name for group in anatomy.groups] == ["block 0", "block 1", "block 2", "head"]
    assert tuple(len(group.parameters) for group in anatomy.groups) == counts
    for group in anatomy.groups[1:]:
        assert find_cut(model, anatomy, group.name, pictures(16)), group.name


class Stages(nn.Module):
    """torchvision's form of a ResNet: a stem, then stages as attributes, without a list that holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        for number in range(1, 4):
            layers = [m for _ in range(number) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))]
            setattr(
                self,
                f"layer{number}",
                nn.Sequential(*[nn.Sequential(*layers[n : n + 2]) for n in range(0, len(layers), 2)]),
            )
        self.fc = nn.Linear(8, 4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.bn1(self.conv1(pixel_values)).relu()
        for number in range(1, 4):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def test_without_a_list_of_blocks_the_children_stand_in_call_order() -> None:
    torch.manual_seed(0)
    model = Stages().eval()
    anatomy = anatomy_of(model, "stages", pictures(8), forward, ["fc.weight", "fc.bias"])
    assert [(group.name, group.entry) for group in anatomy.groups] == [
        ("embeddings", ""), ("block 0", "layer1"), ("block 1", "layer2"), ("block 2", "layer3"), ("head", "fc")
    ]  # fmt: skip
    assert [len(group.parameters) for group in anatomy.groups] == [4, 4, 8, 12, 2]
    for group in anatomy.groups[1:]:
        assert find_cut(model, anatomy, group.name, pictures(8)), group.name
