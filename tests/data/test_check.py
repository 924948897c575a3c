"""Checking rows: which columns are meant, which rows are left out and why, which labels there are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from whet.data.check import Columns, Findings, Rows, check, find_columns
from whet.data.read import Table, read
from whet.errors import DataError, PathError

COLUMNS = Columns("text", "label")


def checked(rows: Any, *, clean_labels: bool = False) -> tuple[Rows, Findings]:
    findings = Findings()
    return check(read(rows), COLUMNS, findings, clean_labels=clean_labels), findings


def columns_of(header: str, rows: list[str], **asked: Any) -> tuple[Columns, list[str]]:
    names = header.split(",")
    cells = [row.split(",") for row in rows]
    table = Table("rows.csv", {name: [row[n] for row in cells] for n, name in enumerate(names)}, list(range(len(rows))))
    return find_columns(table, asked.get("text"), asked.get("label"), labelled=asked.get("labelled", True))


LONG = [f"{number},some words of a person,{'ab'[number % 2]}" for number in range(10)]


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("id,text,label", "text", "label"),
        ("id,Sentence,Category", "Sentence", "Category"),
        ("target,review,id", "review", "target"),
        ("id,message,intent", "message", "intent"),
        ("id,said,kind", "said", "kind"),
        ("id,said,label", "said", "label"),
        ("id,text,kind", "text", "kind"),
    ],
)
def test_columns_are_recognised_by_name_and_by_content(header: str, text: str, label: str) -> None:
    rows = [row if not header.startswith("target") else ",".join(row.split(",")[::-1]) for row in LONG]
    columns, notes = columns_of(header, rows)
    assert columns == Columns(text, label)
    assert notes == [f"label column: {label}", f"text column: {text}"]


def test_columns_that_were_asked_for_are_not_guessed() -> None:
    columns, notes = columns_of("id,text,label", LONG, text="label", label="id")
    assert columns == Columns("label", "id")
    assert notes == []
    columns, notes = columns_of("text,body,label", [f"a{n},some words,{n % 2}" for n in range(9)], text="body")
    assert columns == Columns("body", "label")
    assert notes == ["label column: label"]


def test_rows_to_predict_need_no_label() -> None:
    columns, notes = columns_of("id,text", [row[:-2] for row in LONG], labelled=False)
    assert columns == Columns("text", None)
    assert notes == ["text column: text"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"text": "txt"},
            "rows.csv has no column 'txt'; did you mean text? "
            "Its columns: id, text, label. Choose one with --text NAME.",
        ),
        (
            {"label": "xyz"},
            "rows.csv has no column 'xyz'. Its columns: id, text, label. Choose one with --label NAME.",
        ),
        ({"text": "label", "label": "label"}, "--text and --label both name the column 'label'"),
    ],
)
def test_columns_that_are_not_there(asked: dict[str, str], says: str) -> None:
    with pytest.raises(PathError) as caught:
        columns_of("id,text,label", LONG, **asked)
    assert str(caught.value) == says


def test_no_column_that_looks_like_labels() -> None:
    with pytest.raises(DataError, match=r"no column looks like labels .*id, said.*--label NAME"):
        columns_of("id,said", [f"{n},words {n}" for n in range(10)])


def test_a_file_without_a_header_is_not_learnt_from() -> None:
    rows = ["i lost my card,card", "what is the fee,fee", "card again,card", "fee again,fee", "a third one,card"] * 3
    with pytest.raises(DataError, match=r"seems to have no header.*text,label"):
        columns_of("where is my card,card", rows)


def test_rows_without_text_or_label_are_left_out_and_counted() -> None:
    rows, findings = checked(
        {
            "text": ["a", "", "  ", None, "b", "c", float("nan"), "d"],
            "label": ["x", "x", "x", "x", "", None, "y", "y"],
        }
    )
    assert rows.texts == ("a", "d")
    assert rows.labels == ("x", "y")
    assert rows.lines == (1, 8)
    assert findings.dropped == Counter({"empty text": 4, "no label": 2})


def test_what_reading_left_out_counts_too() -> None:
    findings = Findings()
    table = Table("t", {"text": ["a", "b"], "label": ["x", "y"]}, [2, 4], ["a note"], {"3 fields": 1})
    check(table, COLUMNS, findings)
    assert findings.dropped == Counter({"3 fields": 1})
    assert findings.notes == ["a note"]


def test_nothing_left_says_why() -> None:
    with pytest.raises(DataError, match=r"no row can be used \(2 empty text, 1 no label\)"):
        checked({"text": ["", " ", "a"], "label": ["x", "y", ""]})


@pytest.mark.parametrize(
    ("labels", "read_as"),
    [
        (["card", " card", "card\t", "fee "], ["card", "card", "card", "fee"]),
        ([0, 1, 0, 1], ["0", "1", "0", "1"]),
        ([0.0, 1.0, 0.0, 2.5], ["0", "1", "0", "2.5"]),
        ([True, False, True, False], ["True", "False", "True", "False"]),
    ],
)
def test_labels_become_texts_as_a_spreadsheet_shows_them(labels: list[Any], read_as: list[str]) -> None:
    rows, _ = checked({"text": ["a", "b", "c", "d"], "label": labels})
    assert list(rows.labels) == read_as


VARIANTS = {"text": list("abcdef"), "label": ["card", "Card", "card", "lost  card", "lost card", "fee"]}


def test_labels_that_differ_only_in_case_or_spaces_are_refused_with_the_cure() -> None:
    with pytest.raises(DataError) as caught:
        checked(VARIANTS)
    assert "'card' (2 rows) and 'Card' (1 rows)" in str(caught.value)
    assert "'lost  card' (1 rows) and 'lost card' (1 rows)" in str(caught.value)
    assert "pass --clean-labels" in str(caught.value)


def test_clean_labels_merges_into_the_most_frequent_spelling_and_says_so() -> None:
    rows, findings = checked(VARIANTS, clean_labels=True)
    assert rows.labels == ("card", "card", "card", "lost  card", "lost  card", "fee")
    assert findings.notes == ["2 labels were merged into another spelling of the same words"]


def test_clean_labels_merges_into_a_known_spelling_first() -> None:
    findings = Findings()
    rows = check(read(VARIANTS), COLUMNS, findings, clean_labels=True, known=["CARD", "Lost Card"])
    assert rows.labels == ("CARD", "CARD", "CARD", "Lost Card", "Lost Card", "fee")


@pytest.mark.parametrize("texts", [["1", "2", "3.5"], [1, 2, 3], ["1,5", "-2", "x"]])
def test_a_text_column_of_numbers_is_refused_with_the_cure(texts: list[Any]) -> None:
    with pytest.raises(DataError, match=r"the text column 'text' holds numbers.*columns: text, label.*--text NAME"):
        checked({"text": texts, "label": ["x", "y", "x"]})


def test_some_numbers_among_texts_are_texts() -> None:
    rows, _ = checked({"text": ["1", "two", "three"], "label": ["x", "y", "x"]})
    assert rows.texts == ("1", "two", "three")


def test_texts_are_kept_as_they_are() -> None:
    rows, _ = checked({"text": [" a\n", "B\u00e9", "\u200bc"], "label": ["x", "y", "x"]})
    assert rows.texts == (" a\n", "B\u00e9", "\u200bc")
