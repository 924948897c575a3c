"""Tagging schemes: recognised, converted to BIO, and what is invalid in them counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.schemes import Entity, entities, every_tag, in_bio, may_follow, scheme_of, tags_of
from whet.errors import DataError

BIO = (("O", "B-PER", "I-PER", "B-PER", "O"), ("B-LOC", "B-PER", "I-PER"))
IOB1 = (("O", "I-PER", "I-PER", "B-PER", "O"), ("I-LOC", "I-PER", "I-PER"))
BIOES = (("O", "B-PER", "E-PER", "S-PER", "O"), ("S-LOC", "B-PER", "E-PER"))
BILOU = (("O", "B-PER", "L-PER", "U-PER", "O"), ("U-LOC", "B-PER", "L-PER"))
BMES = (("O", "B_PER", "E_PER", "S_PER", "O"), ("S_LOC", "B_PER", "E_PER"))

types = st.sampled_from(["PER", "LOC", "E", "B-B"])


@st.composite
def spans_in_words(draw: st.DrawFn) -> tuple[int, list[Entity]]:
    """A number of words, and entities that do not overlap in them."""
    found, at = [], draw(st.integers(0, 3))
    for size, gap in draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=6)):
        found.append(Entity(at, at + size, draw(types)))
        at += size + gap
    return at, found


@pytest.mark.parametrize(
    ("tags", "scheme"), [(BIO, "BIO"), (IOB1, "IOB1"), (BIOES, "BIOES"), (BILOU, "BIOES"), (BMES, "BIOES")]
)
def test_each_scheme_is_recognised_and_becomes_the_same_bio(tags: tuple[tuple[str, ...], ...], scheme: str) -> None:
    made = in_bio(tags)
    assert made.scheme == scheme
    assert made.tags == BIO
    assert made.invalid == ()


@settings(deadline=None, max_examples=50)
@given(spans_in_words())
def test_every_way_of_writing_entities_gives_them_back(spans: tuple[int, list[Entity]]) -> None:
    words, found = spans
    bio = tags_of(found, words)
    assert entities(bio) == found
    bioes, iob1 = list(bio), list(bio)
    for number, (start, end, kind) in enumerate(found):
        bioes[end - 1] = f"S-{kind}" if end - start == 1 else f"E-{kind}"
        before = found[number - 1] if number else Entity(0, -1, "")
        iob1[start] = f"B-{kind}" if (before.end, before.type) == (start, kind) else f"I-{kind}"
    for tags, scheme in ((bio, "BIO"), (iob1, "IOB1"), (bioes, "BIOES")):
        made = in_bio((tags,), scheme)
        assert made.tags == (bio,)
        assert not made.invalid


def test_plain_tags_are_no_scheme_even_where_one_is_called_o() -> None:
    tags = (("DET", "NOUN", "O"), ("X", "B", "I-", "E"))
    assert in_bio(tags).scheme == "plain"
    assert in_bio(tags).tags == tags


def test_tags_with_and_without_a_prefix_are_refused_with_both_named() -> None:
    with pytest.raises(DataError, match=r"'B-PER', sentence 1.*'PER', sentence 2"):
        scheme_of([["B-PER", "O"], ["PER"]])


def test_what_cannot_stand_where_it_does_is_counted_and_left_as_it_is() -> None:
    tags = (("O", "I-PER", "I-PER", "O"), ("B-LOC", "I-PER"), ("B-PER", "B-PER", "B-LOC"))
    made = in_bio(tags)
    assert made.scheme == "BIO"
    assert made.tags == tags
    assert [(one.sentence, one.word, one.tag) for one in made.invalid] == [(0, 1, "I-PER"), (1, 1, "I-PER")]


def test_repairing_begins_an_entity_there_and_finds_the_same_ones() -> None:
    tags = (("O", "I-PER", "I-PER", "O"), ("B-LOC", "I-PER"), ("B-PER", "B-PER", "B-LOC"))
    made = in_bio(tags, repair=True)
    assert made.tags == (("O", "B-PER", "I-PER", "O"), ("B-LOC", "B-PER"), ("B-PER", "B-PER", "B-LOC"))
    assert len(made.invalid) == 2
    assert [entities(one) for one in made.tags] == [entities(one) for one in tags]


@pytest.mark.parametrize(
    ("tags", "wrong"),
    [
        (["O", "E-PER", "S-PER"], [1]),
        (["B-PER", "O", "S-PER"], [0]),
        (["B-PER", "I-PER"], [1]),
        (["B-PER", "E-LOC"], [0, 1]),
        (["B-PER", "I-PER", "E-PER", "I-PER"], [3]),
    ],
)
def test_bioes_tells_what_is_not_closed_or_not_open(tags: list[str], wrong: list[int]) -> None:
    assert [one.word for one in in_bio([tags], "BIOES").invalid] == wrong


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(every_tag(["B-PER", "I-LOC"])), max_size=8))
def test_what_is_invalid_is_what_may_not_follow(tags: list[str]) -> None:
    wrong = [n for n, tag in enumerate(tags) if not may_follow(tags[n - 1] if n else None, tag)]
    assert [one.word for one in in_bio([tags], "BIO").invalid] == wrong
    assert not in_bio([in_bio([tags], "BIO", repair=True).tags[0]], "BIO").invalid


def test_a_head_can_give_every_tag_of_every_type() -> None:
    assert every_tag(["O", "B-PER", "I-LOC"]) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert every_tag(["VERB", "NOUN", "O"]) == ("NOUN", "O", "VERB")
