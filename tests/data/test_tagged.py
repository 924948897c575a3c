"""Rows of words and tags, or of texts and spans: what cannot be used is left out, counted and named by row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.check import Findings, Wishes
from whet.data.read import read
from whet.data.schemes import InBIO, entities, in_bio
from whet.data.spans import Span, outside, place, words_of
from whet.data.tagged import Tagged, joined
from whet.errors import DataError, PathError


def checked(rows: list[dict[str, Any]], **options: Any) -> tuple[Any, Findings]:
    table, findings = read(rows), Findings()
    columns, _ = Tagged.columns(table, Wishes())
    return Tagged.check(table, columns, findings, **options), findings


def test_words_and_tags_are_taken_as_they_are() -> None:
    sentences, findings = checked([{"tokens": ["New York", "is", "big"], "tags": ["B-LOC", "O", "O"]}])
    assert sentences.texts == ("New York is big",)
    assert sentences.words_of(0) == ["New York", "is", "big"]
    assert sentences.labels == (("B-LOC", "O", "O"),)
    assert findings.notes == []


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": ["a", "b"], "tags": ["X", "Y"]},
        {"words": ("a", "b"), "ner_tags": np.array([1, 2])},
        {"tokens": "a b", "tags": "X Y"},
        {"text": "a b", "spans": [[0, 1, "X"]]},
        {"sentence": "a b", "entities": [{"start": 0, "end": 1, "label": "X"}]},
    ],
)
def test_such_rows_are_surely_tagged(row: dict[str, Any]) -> None:
    assert Tagged.likeness(read([row]), Wishes()) > 0.9


@pytest.mark.parametrize("names", [("words", "ner_tags"), ("Tokens", "pos_tags"), ("tokens", "labels")])
def test_usual_names_of_the_columns_are_known(names: tuple[str, str]) -> None:
    sentences, _ = checked([{names[0]: ["a", "b"], names[1]: [1, 0], "id": 3}])
    assert sentences.labels == (("1", "0"),)


def test_a_table_of_texts_and_labels_is_none_of_tags() -> None:
    for rows in ([{"text": "a b", "label": "x"}], [{"text": "a", "labels": ["x", "y"]}], [{"words": 3, "tags": "x"}]):
        assert Tagged.likeness(read(rows), Wishes()) == 0


def test_rows_that_cannot_be_used_are_counted_and_named() -> None:
    good = {"tokens": ["a"], "tags": ["O"]}
    rows = [good, {"tokens": ["a", "b"], "tags": ["O"]}, {"tokens": [], "tags": []}, {"tokens": ["a"], "tags": [None]}]
    sentences, findings = checked([*rows, {"tokens": [" "], "tags": ["O"]}, good])
    assert sentences.lines == (1, 6)
    assert findings.dropped == {"unequal numbers of tokens and tags": 1, "empty sentence": 2, "a word without a tag": 1}
    assert "the given rows: 1 left out, unequal numbers of tokens and tags (row 2)" in findings.notes
    assert "the given rows: 2 left out, empty sentence (rows 3, 5)" in findings.notes


def test_where_nothing_is_left_the_reasons_are_told() -> None:
    with pytest.raises(DataError, match="1 unequal numbers of tokens and tags"):
        checked([{"tokens": ["a"], "tags": ["O", "O"]}])


def test_another_scheme_and_what_is_invalid_in_it_are_said_with_rows() -> None:
    rows = [{"tokens": ["a", "b"], "tags": tags} for tags in (["B-X", "E-X"], ["E-X", "O"], ["S-X", "I-X"])]
    sentences, findings = checked(rows)
    assert sentences.labels == (("B-X", "I-X"), ("I-X", "O"), ("B-X", "I-X"))
    assert findings.notes[0] == "the given rows: tags are in BIOES; read as BIO"
    assert (
        "2 tags stand where BIOES allows none such, the first 'E-X' at word 1 of row 2 (rows 2, 3)" in findings.notes[1]
    )
    assert "--clean-labels" in findings.notes[1]
    mended, findings = checked(rows, clean_labels=True)
    assert mended.labels[1] == ("B-X", "O")
    assert findings.notes[1].endswith("mended")


SPANNED = "Hire Anna-Lena in Bad Homburg."


@pytest.mark.parametrize(
    "spans",
    [
        [{"start": 5, "end": 14, "label": "PER"}, {"start": 18, "end": 29, "label": "LOC"}],
        [[18, 29, "LOC"], [5, 14, "PER"]],
        '[{"start": 5, "end": 14, "type": "PER"}, {"start": 18, "end": 29, "type": "LOC"}]',
        [(4, 15, "PER"), (18, 29, "LOC"), (18, 29, "LOC")],
    ],
    ids=["mappings", "lists", "json", "with space around and twice"],
)
@pytest.mark.parametrize("name", ["spans", "entities"])
def test_spans_give_tags_to_words(spans: Any, name: str) -> None:
    sentences, findings = checked([{"text": SPANNED, name: spans}, {"text": "Nothing.", name: []}])
    assert sentences.words_of(0) == ["Hire", "Anna", "-", "Lena", "in", "Bad", "Homburg", "."]
    assert sentences.labels[0] == ("O", "B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC", "O")
    assert sentences.labels[1] == ("O", "O")
    assert findings.notes == []


def test_spans_outside_their_text_leave_the_row_out() -> None:
    good = {"text": SPANNED, "spans": [[0, 4, "X"]]}
    wrong = [[[25, 31, "X"]], [[-1, 3, "X"]], [[4, 4, "X"]], [[4, 5, "X"]], [[9, 2, "X"]]]
    sentences, findings = checked([good, *({"text": SPANNED, "spans": spans} for spans in wrong)])
    assert sentences.lines == (1,)
    assert findings.dropped == {"a span outside the text": 5}
    assert "(rows 2, 3, 4, 5, 6)" in findings.notes[0]


def test_a_span_inside_a_word_takes_the_whole_word_and_is_reported() -> None:
    sentences, findings = checked([{"text": "superconductors!", "spans": [[5, 14, "X"]]}])
    assert sentences.labels == (("B-X", "O"),)
    assert findings.notes == ["the given rows: 1 spans begin or end inside a word and take the whole of it (row 1)"]


def test_of_overlapping_spans_the_longest_is_kept_and_the_others_are_reported() -> None:
    spans = [[0, 4, "X"], [0, 14, "Y"], [15, 17, "Z"], [16, 20, "W"]]
    sentences, findings = checked([{"text": SPANNED, "spans": spans}])
    assert [one.type for one in entities(sentences.labels[0])] == ["Y", "W"]
    assert "2 spans overlap a longer one" in findings.notes[-1]


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="ab -.ß東京ำ\u0301\u200d \n", max_size=30))
def test_words_hold_every_character_but_space_once_and_in_order(text: str) -> None:
    bounds = words_of(text)
    held = [place for start, end in bounds for place in range(start, end)]
    assert held == [place for place, character in enumerate(text) if not character.isspace()]


def test_marks_stay_with_their_letters_and_ideographs_stand_alone() -> None:
    text = "हिन्दी cafe\u0301 don't 東京"
    assert [text[start:end] for start, end in words_of(text)] == ["हिन्दी", "cafe\u0301", "don", "'", "t", "東", "京"]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_spans_that_end_with_words_come_back_from_their_tags(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="ab -.東", min_size=1, max_size=25))
    bounds = words_of(text)
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(bounds)), max_size=6))))
    spans = [Span(bounds[a][0], bounds[b - 1][1], "X") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    assert outside(text, spans) == []
    found = place(text, bounds, spans)
    assert found.inside == found.overlapping == []
    assert [Span(bounds[e.start][0], bounds[e.end - 1][1], e.type) for e in entities(found.tags)] == spans


def test_empty_words_have_their_place_too() -> None:
    text, bounds = joined(["a", "", "b"])
    assert text == "a  b"
    assert bounds == ((0, 1), (2, 2), (3, 4))


def test_the_fingerprint_tells_words_and_tags_apart() -> None:
    rows = [
        {"tokens": ["a", "b c"], "tags": ["X", "Y"]},
        {"tokens": ["a b", "c"], "tags": ["X", "Y"]},
        {"tokens": ["a", "b c"], "tags": ["X", "X"]},
    ]
    assert len({checked([row])[0].fingerprint for row in rows}) == 3


def test_the_example_is_tagged_throughout_and_no_sentence_stands_in_it_twice() -> None:
    table, findings = read(Path(__file__).parents[2] / "examples" / "orders.jsonl"), Findings()
    sentences = Tagged.check(table, Tagged.columns(table, Wishes())[0], findings)
    assert len(sentences) >= 150
    assert in_bio(sentences.labels) == InBIO(sentences.labels, "BIO", ())
    assert findings.notes == []
    assert not findings.dropped
    assert len({text.casefold() for text in sentences.texts}) == len(sentences)
    found = Counter(one.type for tags in sentences.labels for one in entities(tags))
    assert set(found) == {"AMOUNT", "DATE", "ITEM", "PERSON", "PLACE"}
    assert min(found.values()) >= 50


def test_columns_asked_for_are_taken_whatever_they_are_called() -> None:
    table = read([{"w": ["a", "b"], "t": ["X", "Y"], "tokens": ["c"], "tags": ["Z"]}])
    columns, notes = Tagged.columns(table, Wishes(text="w", label="t"))
    assert (columns.text, columns.label, notes) == ("w", "t", [])
    assert Tagged.likeness(table, Wishes(text="w", label="t")) > 0.9
    with pytest.raises(PathError, match="no column 'tag'; did you mean tags"):
        Tagged.columns(table, Wishes(label="tag"))


def test_texts_with_one_label_each_are_no_sentences_of_tags_even_when_columns_are_named() -> None:
    table = read([{"text": "my card", "label": "card problem"}, {"text": "a b", "label": "c d"}])
    assert Tagged.likeness(table, Wishes(text="text", label="label")) == 0


def test_rare_types_stay_in_training_and_are_reported() -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["B-X", "O"]} for _ in range(8)] + [{"tokens": ["c"], "tags": ["B-RARE"]}]
    sentences, findings = checked(rows)
    strata = Tagged.strata(sentences)
    assert strata[-1] == "RARE"
    assert strata[0] != "RARE"
    Tagged.notice(sentences, findings)
    assert findings.notes[-1] == "1 types have fewer than 5 entities to train on: RARE (1)"


def test_a_tag_that_training_does_not_know_is_refused_with_its_row_and_the_nearest() -> None:
    sentences, _ = checked([{"tokens": ["a"], "tags": ["NOUN"]}, {"tokens": ["b"], "tags": ["VERV"]}])
    with pytest.raises(DataError, match=r"unknown tag 'VERV' .*row 2.*did you mean VERB"):
        Tagged.refuse_unknown(sentences, ("NOUN", "VERB"))


def test_one_tag_alone_teaches_nothing() -> None:
    sentences, findings = checked([{"tokens": ["a", "b"], "tags": ["O", "O"]}])
    with pytest.raises(DataError, match="two or more different tags"):
        Tagged.refuse_too_little(sentences, findings)
