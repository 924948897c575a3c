"""Models of torchvision and timm, divided and cut by structure alone: expected groups as data, random weights.

They need the environment of `make test-vision`, whose packages are in requirements.txt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from whet.engine.forward import set_modes
from whet.models.anatomy import anatomy_of
from whet.models.cut import find_cut, states_at
from whet.models.given import head_of
from whet.models.heads import outputs_of
from whet.plan.anatomy import Anatomy

torchvision = pytest.importorskip("torchvision", reason="models of torchvision: run by make test-vision")
timm = pytest.importorskip("timm", reason="models of timm: run by make test-vision")

LABELS = 5


@dataclass(frozen=True)
class Case:
    """`build` makes the model; `size` is the width of its pictures. `head` names the layers that are its head.

    `groups` are those expected, from input to output: the module that each starts with, how many tensors it has,
    and its percentage of the model's numbers. `uncut` are the groups before which the model cannot be divided.
    """

    build: Callable[[], nn.Module]
    size: int
    head: tuple[str, ...]
    groups: dict[str, tuple[str, int, float]]
    uncut: tuple[str, ...] = ("embeddings",)
    idle: tuple[str, ...] = ()


def narrow_vgg() -> nn.Module:
    """torchvision's VGG 11 with an eighth of the channels: as in the wide one, the classifier outweighs the rest."""
    with torch.device("meta"):
        model = torchvision.models.VGG(nn.Identity(), init_weights=False)
    layers = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    model.features = torchvision.models.vgg.make_layers(layers)
    model.classifier = nn.Sequential(
        nn.Linear(64 * 7 * 7, 512), nn.ReLU(True), nn.Dropout(),
        nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(),
        nn.Linear(512, LABELS),
    )  # fmt: skip
    return model


def narrow_timm_vgg() -> nn.Module:
    layers = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    return timm.models.vgg.VGG(layers, num_classes=LABELS, mlp_ratio=0.125)


def small_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=LABELS
    )


def small_densenet() -> nn.Module:
    return torchvision.models.DenseNet(growth_rate=4, block_config=(2, 2, 2), num_init_features=8, num_classes=LABELS)


def of_timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=LABELS, **options)


CASES = {
    "torchvision resnet18": Case(
        lambda: torchvision.models.resnet18(num_classes=LABELS),
        32,
        ("fc",),
        {
            "embeddings": ("", 3, 0.09),
            "block 0": ("layer1", 12, 1.32),
            "block 1": ("layer2", 15, 4.70),
            "block 2": ("layer3", 15, 18.78),
            "block 3": ("layer4", 15, 75.08),
            "head": ("fc", 2, 0.02),
        },
    ),
    # A flat Sequential, divided after each pooling. The first layers of the classifier come after the last block.
    "torchvision vgg11": Case(
        narrow_vgg,
        32,
        ("classifier.6",),
        {
            "block 0": ("features.0", 2, 0.01),
            "block 1": ("features.3", 2, 0.06),
            "block 2": ("features.6", 4, 0.69),
            "block 3": ("features.11", 4, 2.75),
            "block 4": ("features.16", 8, 96.37),
            "head": ("classifier.6", 2, 0.13),
        },
        uncut=("block 0",),
    ),
    "torchvision vit_b_16": Case(
        small_vit,
        16,
        ("heads.head",),
        {
            "embeddings": ("", 4, 13.64),
            "block 0": ("encoder.layers.encoder_layer_0", 12, 28.29),
            "block 1": ("encoder.layers.encoder_layer_1", 12, 28.29),
            "block 2": ("encoder.layers.encoder_layer_2", 14, 28.70),
            "head": ("heads", 2, 1.08),
        },
    ),
    # A stem and blocks of several kinds in one Sequential; the classifier has a hidden layer with four tenths of all.
    "torchvision mobilenet_v3_small": Case(
        lambda: torchvision.models.mobilenet_v3_small(num_classes=LABELS),
        32,
        ("classifier.3",),
        {
            "embeddings": ("", 3, 0.03),
            "block 0": ("features.1", 10, 0.05),
            "block 1": ("features.2", 9, 0.25),
            "block 2": ("features.3", 9, 0.36),
            "block 3": ("features.4", 13, 0.90),
            "block 4": ("features.5", 13, 3.76),
            "block 5": ("features.6", 13, 3.76),
            "block 6": ("features.7", 13, 1.44),
            "block 7": ("features.8", 13, 1.96),
            "block 8": ("features.9", 13, 6.03),
            "block 9": ("features.10", 13, 19.31),
            "block 10": ("features.11", 13, 19.31),
            "block 11": ("features.12", 5, 42.50),
            "head": ("classifier.3", 2, 0.34),
        },
    ),
    # A transition is a flat Sequential that ends in pooling: one block, called as one module.
    "torchvision densenet": Case(
        small_densenet,
        32,
        ("classifier",),
        {
            "embeddings": ("", 3, 18.75),
            "block 0": ("features.denseblock1", 12, 24.79),
            "block 1": ("features.transition1", 3, 2.52),
            "block 2": ("features.denseblock2", 12, 24.79),
            "block 3": ("features.transition2", 3, 2.52),
            "block 4": ("features.denseblock3", 14, 25.29),
            "head": ("classifier", 2, 1.34),
        },
    ),
    # Two further classifiers halfway, which run in training mode only and whose outputs nothing uses.
    "torchvision googlenet": Case(
        lambda: torchvision.models.googlenet(num_classes=LABELS, init_weights=False),
        32,
        ("fc",),
        {
            "embeddings": ("", 9, 2.23),
            "block 0": ("inception3a", 18, 2.78),
            "block 1": ("inception3b", 18, 6.07),
            "block 2": ("inception4a", 18, 6.50),
            "block 3": ("inception4b", 18, 7.59),
            "block 4": ("inception4c", 18, 8.67),
            "block 5": ("inception4d", 18, 10.23),
            "block 6": ("inception4e", 18, 14.34),
            "block 7": ("inception5a", 18, 17.47),
            "block 8": ("inception5b", 18, 24.03),
            "head": ("fc", 2, 0.09),
        },
        idle=("aux1", "aux2"),
    ),
    "timm vit_tiny_patch16_224": Case(
        of_timm("vit_tiny_patch16_224", img_size=32, depth=4),
        32,
        ("head",),
        {
            "embeddings": ("", 4, 7.71),
            "block 0": ("blocks.0", 12, 23.05),
            "block 1": ("blocks.1", 12, 23.05),
            "block 2": ("blocks.2", 12, 23.05),
            "block 3": ("blocks.3", 14, 23.07),
            "head": ("head", 2, 0.05),
        },
    ),
    # Two heads, each on a token of its own: one state alone does not give both.
    "timm deit_tiny_distilled_patch16_224": Case(
        of_timm("deit_tiny_distilled_patch16_224", img_size=32, depth=2),
        32,
        ("head", "head_dist"),
        {
            "embeddings": ("", 5, 14.33),
            "block 0": ("blocks.0", 12, 42.73),
            "block 1": ("blocks.1", 14, 42.76),
            "head": ("head", 4, 0.19),
        },
        uncut=("embeddings", "head"),
    ),
    # A stem of three convolutions in a Sequential, and a norm beside it.
    "timm resnet10t": Case(
        of_timm("resnet10t"),
        32,
        ("fc",),
        {
            "embeddings": ("", 9, 0.53),
            "block 0": ("layer1", 6, 1.50),
            "block 1": ("layer2", 9, 4.67),
            "block 2": ("layer3", 9, 18.66),
            "block 3": ("layer4", 9, 74.58),
            "head": ("fc", 2, 0.05),
        },
    ),
    "timm regnety_002": Case(
        of_timm("regnety_002"),
        32,
        ("head.fc",),
        {
            "embeddings": ("", 3, 0.03),
            "block 0": ("s1", 16, 0.16),
            "block 1": ("s2", 16, 0.39),
            "block 2": ("s3", 55, 9.52),
            "block 3": ("s4", 94, 89.83),
            "head": ("head", 2, 0.07),
        },
    ),
    # The two layers after the convolutions hold nearly all numbers, in a module of their own.
    "timm vgg11": Case(
        narrow_timm_vgg,
        32,
        ("head.fc",),
        {
            "block 0": ("features.0", 2, 0.01),
            "block 1": ("features.3", 2, 0.03),
            "block 2": ("features.6", 4, 0.36),
            "block 3": ("features.11", 4, 1.43),
            "block 4": ("features.16", 4, 1.91),
            "block 5": ("pre_logits", 4, 95.74),
            "head": ("head", 2, 0.53),
        },
        uncut=("block 0",),
    ),
    # The module around the head starts with the last norm, which belongs to the last block.
    "timm convnext_tiny": Case(
        of_timm("convnext_tiny", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)),
        32,
        ("head.fc",),
        {
            "embeddings": ("", 4, 1.28),
            "block 0": ("stages.0", 9, 3.06),
            "block 1": ("stages.1", 13, 11.03),
            "block 2": ("stages.2", 22, 42.57),
            "block 3": ("stages.3", 15, 41.55),
            "head": ("head.fc", 2, 0.52),
        },
    ),
    "timm swin_tiny_patch4_window7_224": Case(
        of_timm(
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=2,
            embed_dim=8,
            depths=(1, 1, 2, 1),
            num_heads=(1, 1, 2, 2),
        ),
        32,
        ("head.fc",),
        {
            "embeddings": ("", 4, 0.45),
            "block 0": ("layers.0", 13, 0.96),
            "block 1": ("layers.1", 16, 4.22),
            "block 2": ("layers.2", 29, 30.13),
            "block 3": ("layers.3", 18, 63.89),
            "head": ("head", 2, 0.35),
        },
    ),
}

CUTS = [(name, group) for name, case in CASES.items() for group in case.groups if group not in case.uncut]
UNCUT = [(name, group) for name, case in CASES.items() for group in case.uncut]


@dataclass(frozen=True)
class Ready:
    """A model in eval mode, the parameters of its head, and its anatomy."""

    model: nn.Module
    new: tuple[str, ...]
    anatomy: Anatomy


def built(name: str) -> nn.Module:
    """With weights and statistics at random. As they come, heads and branches start at zero, which hides mistakes."""
    torch.manual_seed(0)
    model = CASES[name].build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for own, buffer in model.named_buffers():
            if own.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif own.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def pictures(name: str, rows: int) -> dict[str, Tensor]:
    size = CASES[name].size
    return {"x": torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(rows))}


@cache
def ready(name: str) -> Ready:
    """Made once for all tests: none of them changes it for good."""
    model = built(name)
    new = tuple(own for own, _ in model.named_parameters() if own.rpartition(".")[0] in CASES[name].head)
    return Ready(model, new, anatomy_of(model, name, pictures(name, 2), outputs_of, new))


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_divided_as_expected(name: str) -> None:
    anatomy = ready(name).anatomy
    found = {g.name: (g.entry, len(g.parameters), round(100 * g.size / anatomy.size, 2)) for g in anatomy.groups}
    assert found == CASES[name].groups
    assert list(found) == list(CASES[name].groups)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_is_in_one_group_or_idle(name: str) -> None:
    case, anatomy = ready(name), ready(name).anatomy
    own = {name: parameter.numel() for name, parameter in case.model.named_parameters()}
    places = [*anatomy.parameters, *anatomy.idle]
    assert len(places) == len(own)
    assert {parameter.name: parameter.size for parameter in places} == own
    assert {p.name for p in anatomy.idle} == {n for n in own if n.startswith(CASES[name].idle)}
    assert {p.name for p in anatomy.head.parameters} == set(case.new)


@pytest.mark.parametrize("name", CASES)
def test_parameters_of_norms_are_told_from_others(name: str) -> None:
    case = ready(name)
    norms = nn.LayerNorm | nn.modules.batchnorm._BatchNorm
    for parameter in case.anatomy.parameters:
        owner = case.model.get_submodule(parameter.name.rpartition(".")[0])
        assert (parameter.kind == "norm") == isinstance(owner, norms), parameter.name


@pytest.mark.parametrize("name", CASES)
def test_groups_stand_in_the_order_of_what_they_change(name: str) -> None:
    """Other weights in a group change the states that arrive at the later groups, and no others."""
    case, inputs = ready(name), pictures(name, 2)
    model, groups = case.model, case.anatomy.groups
    entries = [group.entry for group in groups if group.entry]
    later = len(groups) - len(entries)
    with torch.no_grad():
        before = arriving(model, entries, inputs)
        for number, group in enumerate(groups):
            kept = {p.name: model.get_parameter(p.name).clone() for p in group.parameters}
            for own, value in kept.items():
                model.get_parameter(own).add_(torch.randn_like(value))
            after = arriving(model, entries, inputs)
            for own, value in kept.items():
                model.get_parameter(own).copy_(value)
            changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert changed == [place + later > number for place in range(len(entries))], group.name


def arriving(model: nn.Module, entries: list[str], inputs: dict[str, Tensor]) -> list[Tensor]:
    return [states_at(model, [entry], inputs)[0].state.clone() for entry in entries]


@pytest.mark.parametrize(("name", "group"), CUTS)
def test_outputs_from_the_stored_state_are_the_whole_models(name: str, group: str) -> None:
    case = ready(name)
    cut = find_cut(case.model, case.anatomy, group, pictures(name, 2))
    assert cut is not None
    with torch.no_grad():
        for rows in (1, 2, 5):
            inputs = pictures(name, rows)
            whole, state = outputs_of(case.model, inputs), cut.capture(inputs)
            assert whole.shape == (rows, LABELS)
            stored = torch.empty(state.shape).copy_(state)
            assert torch.equal(cut.above({} if cut.direct else inputs, stored), whole)
            assert torch.equal(stored, state), "the stored state was written to"
            assert not torch.equal(cut.above({} if cut.direct else inputs, stored + 0.5), whole), "it is not used"


@pytest.mark.parametrize(("name", "group"), UNCUT)
def test_where_a_model_cannot_be_cut(name: str, group: str) -> None:
    case = ready(name)
    assert find_cut(case.model, case.anatomy, group, pictures(name, 2)) is None


@pytest.mark.parametrize(("name", "group"), CUTS)
def test_nothing_is_computed_on_both_sides_of_a_cut(name: str, group: str) -> None:
    """The products below and above a cut are those of the whole model; the stem alone may be computed again."""
    case, inputs = ready(name), pictures(name, 2)
    cut = find_cut(case.model, case.anatomy, group, inputs)
    assert cut is not None
    first = case.anatomy.blocks[0].entry
    with torch.no_grad():
        state = cut.capture(inputs)
        whole = products(lambda: outputs_of(case.model, inputs))
        below = products(lambda: cut.capture(inputs))
        above = products(lambda: cut.above({} if cut.direct else inputs, state))
        stem = products(lambda: states_at(case.model, [first], inputs))
    assert below + above - whole in ({0} if cut.direct else {0, stem})


def products(compute: Callable[[], object]) -> int:
    """Multiplications and additions of matrices and convolutions."""
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


@pytest.mark.parametrize(("name", "group"), [(n, g) for n, g in CUTS if g in ("block 1", *list(CASES[n].groups)[-2:])])
def test_training_above_a_cut_has_the_gradients_of_the_whole_and_moves_no_statistics(name: str, group: str) -> None:
    case, inputs = Ready(model := built(name), ready(name).new, ready(name).anatomy), pictures(name, 4)
    names = [g.name for g in case.anatomy.groups]
    moving = {p.name for g in case.anatomy.groups[names.index(group) :] for p in g.parameters}
    for own, parameter in model.named_parameters():
        parameter.requires_grad_(own in moving)
    buffers = {own: buffer.clone() for own, buffer in model.named_buffers()}
    cut = find_cut(model, case.anatomy, group, inputs)
    assert cut is not None
    with torch.no_grad():
        state = cut.capture(inputs)
    set_modes(model, inputs, cut.entry)
    found = []
    for compute in (lambda: outputs_of(model, inputs), lambda: cut.above({} if cut.direct else inputs, state.clone())):
        torch.manual_seed(1)  # what is dropped
        compute().square().sum().backward()
        found.append({own: model.get_parameter(own).grad for own in moving})
        model.zero_grad(set_to_none=True)
    assert all(value is not None and torch.equal(found[1][own], value) for own, value in found[0].items())
    assert all(torch.equal(buffer, buffers[own]) for own, buffer in model.named_buffers())


@pytest.mark.parametrize("name", CASES)
def test_tracing_and_trials_leave_a_model_as_it_was(name: str) -> None:
    model = built(name)
    before = {own: value.clone() for own, value in model.state_dict().items()}
    anatomy = anatomy_of(model, name, pictures(name, 2), outputs_of, ready(name).new)
    for group in anatomy.groups:
        find_cut(model, anatomy, group.name, pictures(name, 2))
    assert all(torch.equal(value, before[own]) for own, value in model.state_dict().items())
    for module in model.modules():
        assert not module.training
        assert not {**module._forward_hooks, **module._forward_pre_hooks}
        assert "forward" not in vars(module)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.head) == 1])
def test_the_layer_that_a_model_ends_in_is_found(name: str) -> None:
    case = ready(name)
    assert head_of(case.model, pictures(name, 2)) == case.new
