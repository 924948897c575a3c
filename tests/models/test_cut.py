"""Cutting: what lies above computes the same bits from a stored state as the whole model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whet.data.check import Rows
from whet.data.store import TokenStore, tokenize
from whet.models.anatomy import anatomy_of
from whet.models.cut import find_cut, states_at
from whet.models.heads import outputs_of
from whet.models.load import Built, build, load_tokenizer
from whet.models.reference import find_model
from whet.plan.anatomy import Anatomy
from whet.plan.edits import NewHead

TEXTS = (
    "my card was swallowed by the machine at the station",
    "where is my order",
    "I want to borrow five thousand for a car and pay it back in two years",
    "the card does not work in the shop, and it did not work at the bank either, what can I do about it",
    "loan",
    "the parcel that I was promised for last week has not come, and nobody answers",
)
HEADS = {"pooled": NewHead(), "native": NewHead(kind="native"), "mlp": NewHead(hidden=(8,), pooling="max")}
BLOCKS = {"bert": 4, "gpt2": 3}
GROUPS = [
    (family, head, group)
    for family, blocks in BLOCKS.items()
    for head in HEADS
    for group in ("embeddings", *(f"block {number}" for number in range(blocks)), "head")
]


class Ready:
    """A model with its anatomy and tokenised rows."""

    def __init__(self, folder: Path, head: NewHead) -> None:
        source = find_model(str(folder))
        tokenizer = load_tokenizer(source)
        self.built: Built = build(source, (head,), 3, seed=0)
        self.model = self.built.model.eval()
        rows = Rows("texts", TEXTS, (), tuple(range(1, len(TEXTS) + 1)))
        self.store: TokenStore = tokenize(rows, tokenizer, 96)
        self.anatomy: Anatomy = anatomy_of(self.model, "tiny", self.batch([0, 1]), outputs_of, self.built.origin.new)
        # A new head's small weights hide differences; the pretrained ones are large enough.
        with torch.no_grad():
            for name in self.built.origin.new:
                self.model.get_parameter(name).normal_(generator=torch.Generator().manual_seed(3))

    def batch(self, rows: list[int]) -> dict[str, Tensor]:
        return self.store.batch(np.array(rows))


@pytest.fixture(scope="module")
def ready(tiny_bert: Path, tiny_gpt2: Path) -> dict[tuple[str, str], Ready]:
    folders = {"bert": tiny_bert, "gpt2": tiny_gpt2}
    return {(family, head): Ready(folders[family], HEADS[head]) for family in folders for head in HEADS}


def untouched(model: nn.Module) -> bool:
    """No hook is left on any module, and none has a forward of its own."""
    return not any(
        module._forward_pre_hooks or module._forward_hooks or "forward" in vars(module) for module in model.modules()
    )


@pytest.mark.parametrize(("family", "head", "group"), GROUPS)
def test_outputs_from_the_stored_state_are_the_whole_models(
    family: str, head: str, group: str, ready: dict[tuple[str, str], Ready]
) -> None:
    case = ready[family, head]
    cut = find_cut(case.model, case.anatomy, group, case.batch([0, 1, 4]))
    if group == "embeddings":
        assert cut is None
        return
    assert cut is not None
    for rows in ([0, 1, 2, 3, 4, 5], [4, 1], [2], [5, 3, 0]):
        inputs = case.batch(rows)
        with torch.no_grad():
            whole = outputs_of(case.model, inputs)
            state = cut.capture(inputs)
            above = cut.above({} if cut.direct else inputs, state)
        assert len(state) == len(rows)
        assert torch.equal(above, whole)
        with torch.no_grad():
            assert not torch.equal(cut.above({} if cut.direct else inputs, state + 0.5), whole), "the state is not used"
    assert untouched(case.model)


@pytest.mark.parametrize(("family", "head", "group"), [case for case in GROUPS if case[2] != "embeddings"])
def test_capturing_stops_before_the_entry_and_above_skips_what_lies_below(
    family: str, head: str, group: str, ready: dict[tuple[str, str], Ready]
) -> None:
    case, inputs = ready[family, head], ready[family, head].batch([0, 1])
    cut = find_cut(case.model, case.anatomy, group, inputs)
    assert cut is not None
    names = [g.name for g in case.anatomy.groups]
    entries = {g.name: g.entry for g in case.anatomy.groups if g.entry}
    ran: list[str] = []

    class Counting(torch.nn.Module):
        """Stands in for a leaf of a group, to see whether its products are computed."""

        def __init__(self, inner: nn.Module, own: str) -> None:
            super().__init__()
            self.inner, self.own = inner, own

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            ran.append(self.own)
            return self.inner(*args, **kwargs)

    places = []
    for name, entry in entries.items():
        parent = case.model.get_submodule(entry)
        leaf = next(n for n, m in parent.named_modules() if list(m.parameters(recurse=False)))
        path = f"{entry}.{leaf}".rstrip(".")
        owner, _, own = path.rpartition(".")
        places.append((case.model.get_submodule(owner), own, case.model.get_submodule(path), path, name))
    if group != "head" or head != "native":  # the native head is a layer itself: it cannot be counted from within
        places = [place for place in places if place[3] != cut.entry]
    try:
        for owner_module, own, inner, _, name in places:
            setattr(owner_module, own, Counting(inner, name))
        counted = {name for *_, name in places}
        with torch.no_grad():
            state = cut.capture(inputs)
            assert set(ran) == counted & set(names[: names.index(group)])
            ran.clear()
            cut.above({} if cut.direct else inputs, state)
        assert set(ran) == counted & set(names[names.index(group) :])
    finally:
        for owner_module, own, inner, _, _ in places:
            setattr(owner_module, own, inner)


@pytest.mark.parametrize("group", ["block 1", "block 3", "head"])
def test_gradients_above_the_cut_are_those_of_the_frozen_whole(group: str, ready: dict[tuple[str, str], Ready]) -> None:
    case = ready["bert", "native"]
    inputs = case.batch([0, 1, 2, 3])
    names = [g.name for g in case.anatomy.groups]
    above = case.anatomy.groups[names.index(group) :]
    moving = {p.name: case.model.get_parameter(p.name) for g in above for p in g.parameters}
    for name, parameter in case.model.named_parameters():
        parameter.requires_grad_(name in moving)
    cut = find_cut(case.model, case.anatomy, group, inputs)
    assert cut is not None
    with torch.inference_mode():
        state = cut.capture(inputs).clone()
    found = []
    for outputs in (
        lambda: outputs_of(case.model, inputs),
        lambda: cut.above({} if cut.direct else inputs, state.clone()),
    ):
        outputs().square().sum().backward()
        found.append({name: parameter.grad.clone() for name, parameter in moving.items()})
        case.model.zero_grad(set_to_none=True)
    case.model.requires_grad_(True)
    assert all(torch.equal(found[0][name], found[1][name]) for name in moving)
    assert all(value.abs().sum() > 0 for name, value in found[0].items() if not name.endswith("key.bias"))


def test_looking_for_a_cut_leaves_the_modes_as_they_were(ready: dict[tuple[str, str], Ready]) -> None:
    case = ready["bert", "pooled"]
    case.model.train()
    case.model.body.encoder.layer[1].eval()
    before = {name: module.training for name, module in case.model.named_modules()}
    find_cut(case.model, case.anatomy, "block 2", case.batch([0, 1]))
    assert {name: module.training for name, module in case.model.named_modules()} == before
    case.model.eval()


def test_an_error_above_the_cut_leaves_no_trace(ready: dict[tuple[str, str], Ready]) -> None:
    case = ready["bert", "pooled"]
    cut = find_cut(case.model, case.anatomy, "block 2", case.batch([0, 1]))
    assert cut is not None
    with pytest.raises((RuntimeError, ValueError)):
        cut.above(case.batch([0, 1]), torch.zeros(2, 8, 31))
    assert untouched(case.model)
    with pytest.raises(IndexError):
        cut.capture({**case.batch([0, 1]), "input_ids": torch.full((2, 16), 10**6)})
    assert untouched(case.model)


class LooksBack(nn.Module):
    """Its last block adds what block 0 made: from the state before a later block alone it cannot be computed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        states = self.embed(input_ids)
        states = first = self.blocks[0](states)
        states = self.blocks[1](states)
        return self.head((self.blocks[2](states) + first).mean(1))


def test_a_model_that_looks_back_is_not_cut_where_it_would_differ() -> None:
    torch.manual_seed(0)
    model = LooksBack()
    inputs = {"input_ids": torch.tensor([[1, 5, 6, 7], [1, 8, 9, 10]])}
    anatomy = anatomy_of(model, "toy", inputs, outputs_of, ("head.weight", "head.bias"))
    assert [group.entry for group in anatomy.blocks] == ["blocks.0", "blocks.1", "blocks.2"]
    assert find_cut(model, anatomy, "block 0", inputs) is not None
    assert find_cut(model, anatomy, "block 1", inputs) is None
    assert find_cut(model, anatomy, "block 2", inputs) is None
    assert find_cut(model, anatomy, "head", inputs) is not None
    assert untouched(model)


def pixels(rows: int) -> dict[str, Tensor]:
    return {"pixels": torch.randn(rows, 3, 6, 6, generator=torch.Generator().manual_seed(rows))}


def layers(first: int, last: int) -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Conv2d(first, last, 3, padding=1), nn.BatchNorm2d(last)))


class Pictures(nn.Module):
    """Stages with a norm between them, which takes what the first one gives and not what it gets; a further
    classifier halfway, in training mode only; and a state whose channels lie closest together in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.norm, self.middle = layers(3, 4), nn.BatchNorm2d(4), layers(4, 4)
        self.aside = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))
        self.late, self.head = layers(4, 8), nn.Linear(8, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        states = self.middle(self.norm(self.early(pixels)).contiguous(memory_format=torch.channels_last))
        if self.training:
            self.aside(states)
        return self.head(self.late(states).mean((2, 3)))


def of_pictures() -> tuple[nn.Module, Anatomy]:
    torch.manual_seed(0)
    model = Pictures().eval()
    anatomy = anatomy_of(model, "toy", pixels(2), outputs_of, ("head.weight", "head.bias"))
    assert [group.entry for group in anatomy.groups] == ["early", "middle", "late", "head"]
    return model, anatomy


@pytest.mark.parametrize("group", ["block 1", "block 2", "head"])
def test_layers_between_blocks_are_skipped_with_the_block_that_they_follow(group: str) -> None:
    model, anatomy = of_pictures()
    cut = find_cut(model, anatomy, group, pixels(2))
    assert cut is not None
    with torch.no_grad():
        assert torch.equal(cut.above(pixels(3), cut.capture(pixels(3))), outputs_of(model, pixels(3)))
    assert untouched(model)


def test_a_classifier_halfway_that_is_only_called_in_training_does_not_hinder_the_cut() -> None:
    model, anatomy = of_pictures()
    assert {parameter.name.split(".")[0] for parameter in anatomy.idle} == {"aside"}
    cut = find_cut(model, anatomy, "block 2", pixels(2))
    assert cut is not None
    with torch.no_grad():
        state, whole = cut.capture(pixels(2)), outputs_of(model, pixels(2))
        model.training = True
        assert torch.equal(cut.above(pixels(2), state), whole)
    assert untouched(model)


def test_a_stored_state_is_put_in_with_the_layout_that_it_had() -> None:
    model, anatomy = of_pictures()
    cut = find_cut(model, anatomy, "block 1", pixels(2))
    assert cut is not None
    met: list[tuple[int, ...]] = []
    handle = model.middle[0].register_forward_pre_hook(lambda _, args: met.append(args[0].stride()))
    with torch.no_grad():
        outputs_of(model, pixels(3))
        state = cut.capture(pixels(3)).contiguous()
        cut.above(pixels(3), state)
    handle.remove()
    assert met[0] == met[-1] != state.stride()


class InPlace(nn.Module):
    """A block that adds to the very tensor it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, states: Tensor) -> Tensor:
        states += self.layer(states)
        return states


def test_states_of_one_pass_are_those_that_arrived_though_blocks_work_in_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Sequential(InPlace(), InPlace()), nn.Linear(8, 2))
    inputs, entries = {"input": torch.randn(4, 3)}, ["1.0", "1.1", "2"]
    with torch.no_grad():
        together = states_at(model, entries, inputs)
        for entry, found in zip(entries, together, strict=True):
            assert torch.equal(found.state, states_at(model, [entry], inputs)[0].state), entry


class Shares(nn.Module):
    """Its last layer has the weight of block 0, and is defined first: the weight goes by the last layer's name."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.embed = nn.Linear(8, 8), nn.Embedding(16, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.blocks[0].weight = self.last.weight
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        states = self.embed(input_ids)
        for block in self.blocks:
            states = block(states).relu()
        return self.head(self.last(states).mean(1))


def test_a_layer_above_the_cut_is_computed_though_a_block_below_shares_its_weight() -> None:
    torch.manual_seed(0)
    model, inputs = Shares(), {"input_ids": torch.tensor([[1, 5, 6, 7], [1, 8, 9, 10]])}
    anatomy = anatomy_of(model, "toy", inputs, outputs_of, ("head.weight", "head.bias"))
    assert anatomy.group_of()["last.weight"] == "block 0"
    for group in ("block 0", "block 1", "block 2", "head"):
        assert find_cut(model, anatomy, group, inputs) is not None, group
    assert untouched(model)
