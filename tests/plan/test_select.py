"""Selections name the parameters that move; one that finds nothing says what there is."""

from __future__ import annotations

import pytest

from whet.errors import SelectionError, did_you_mean, nearest
from whet.plan.anatomy import Anatomy
from whet.plan.select import Select

HEAD = {"out.weight", "out.bias"}


def layer(number: int) -> set[str]:
    return {f"layer.{number}.dense.weight", f"layer.{number}.dense.bias", f"layer.{number}.norm.weight"}


EVERYTHING = HEAD | layer(0) | layer(1) | layer(2) | {"words.weight"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("everything()", EVERYTHING),
        ("head()", HEAD),
        ("head", HEAD),
        ("top(0)", HEAD),
        ("top(2)", HEAD | layer(1) | layer(2)),
        ("top(3)", EVERYTHING - {"words.weight"}),
        ("groups('words', 'layer.1')", layer(1) | {"words.weight"}),
        ("match('*.bias')", {"out.bias", *(f"layer.{n}.dense.bias" for n in range(3))}),
        ("match('layer.0.*', 'out.bias')", layer(0) | {"out.bias"}),
        ("kinds('norm')", {f"layer.{n}.norm.weight" for n in range(3)}),
        ("head() + groups('layer.2')", HEAD | layer(2)),
        ("everything() - head()", EVERYTHING - HEAD),
        ("everything() - (head() + groups('words'))", layer(0) | layer(1) | layer(2)),
        ("head() + (everything() - match('*'))", HEAD),
    ],
)
def test_what_a_selection_finds(anatomy: Anatomy, text: str, names: set[str]) -> None:
    assert Select.parse(text).on(anatomy) == names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("head() - head()", ["head() - head()", "selects nothing in small", "words", "layer.0", "head"]),
        (
            "match('*.attention.*')",
            ["'*.attention.*' matches none of the 12 parameters", "Names here look like 'layer.1."],
        ),
        ("match('*.bias', '*.biass')", ["'*.biass' matches none"]),
        ("groups('layer.11')", ["no group 'layer.11'", "did you mean layer.1?"]),
        ("groups('hed')", ["did you mean head?"]),
        ("groups('xyz')", ["known are: head, layer.0, layer.1, layer.2, words"]),
        ("top(4)", ["small has 3 blocks"]),
    ],
)
def test_what_finds_nothing_says_what_there_is(anatomy: Anatomy, text: str, says: list[str]) -> None:
    with pytest.raises(SelectionError) as caught:
        Select.parse(text).on(anatomy)
    for part in says:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hed()", "did you mean head?"),
        ("everyting", "did you mean everything?"),
        ("'head'", "is no selection; write for example head()"),
        ("top('x')", "count"),
        ("top()", "count"),
        ("kinds('weigth')", "chosen"),
        ("head() + 1", "cannot be joined"),
        ("head(", "cannot read 'head('"),
        ("__import__('os').system('true')", "only names, numbers, texts and lists"),
    ],
)
def test_what_is_no_selection(text: str, says: str) -> None:
    with pytest.raises(SelectionError) as caught:
        Select.parse(text)
    assert says in str(caught.value)


def test_adapters_are_what_edits_have_added(anatomy: Anatomy) -> None:
    adapted = anatomy.model_copy(update={"added": ("layer.1.dense.weight",)})
    assert Select.parse("adapters()").on(adapted) == {"layer.1.dense.weight"}
    assert Select.parse("adapters() + head()").on(anatomy) == HEAD
    with pytest.raises(SelectionError, match=r"adapters\(\) selects nothing"):
        Select.parse("adapters()").on(anatomy)


def test_groups_and_blocks(anatomy: Anatomy) -> None:
    assert [group.name for group in anatomy.blocks] == ["layer.0", "layer.1", "layer.2"]
    assert anatomy.head.name == "head"
    assert anatomy.size == 500 + 3 * 120 + 33
    assert anatomy.group("layer.2").size == 120
    assert anatomy.group_of()["layer.0.dense.bias"] == "layer.0"


KNOWN = ["learning_rate", "weight_decay", "batch_size", "epochs", "out"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("learning_rat", "learning_rate"),
        ("Learning-Rate", "learning_rate"),
        ("EPOCHS", "epochs"),
        ("epoch", "epochs"),
        ("lr", "learning_rate"),
        ("wd", "weight_decay"),
        ("num_train_epochs", "epochs"),
        ("output", "out"),
        ("xyz", None),
        ("", None),
    ],
)
def test_the_nearest_name(word: str, name: str | None) -> None:
    assert nearest(word, KNOWN) == name


def test_names_are_listed_when_none_is_near_but_not_all_of_many() -> None:
    assert did_you_mean("xyz", KNOWN[:2]) == "known are: learning_rate, weight_decay"
    assert did_you_mean("xyz", []) == "there are none"
    many = did_you_mean("xyz", [f"label {number:02}" for number in range(77)])
    assert many.endswith("label 11 and 65 more")
