"""Any number of labels a row: how they are recognised and read, and that none of them is told from no value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.data.label_sets import (
    Form,
    about_labels,
    columns_named,
    form_asked,
    form_of,
    indicators,
    read_labels,
)
from whet.data.read import Table, read
from whet.errors import DataError

TICKETS = Path(__file__).parent.parent.parent / "examples" / "tickets.csv"


def table(**columns: list[Any]) -> Table:
    return read(dict(columns))


def sets_of(labels: list[Any]) -> list[Any]:
    rows = table(text=["some words"] * len(labels), labels=labels)
    return read_labels(rows, form_asked(rows, "labels"))


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (["a;b", "a", "b", "c;a", ""], ";"),
        (["a|b", "a", "b", "c|a", ""], "|"),
        (["a, b", "a", "b", "c,a", "c"], ","),
        ([["a", "b"], [], ["c"]], None),
        ([("a", "b"), ("a",)], None),
        (['["a", "b"]', "[]", '["b"]'], None),
        (["['a', 'b']", "[]", "['b']"], None),
    ],
)
def test_several_labels_in_a_column_are_recognised(labels: list[Any], separator: str | None) -> None:
    rows = table(labels=labels)
    assert form_of(rows, "labels") == Form(("labels",), separator)
    # However they are written, they read the same.
    assert read_labels(rows, Form(("labels",), separator))[0] == ("a", "b")


@pytest.mark.parametrize(
    "labels",
    [
        ["spam", "ham", "spam"],
        ["Dallas, TX", "Austin, TX", "Salem, OR", "Portland, OR"],
        ["other; see notes", "refund", "complaint", "refund"],
        ["a|b", *["c", "d"] * 20],
        ["1", "2", "3"],
        [1, 2, 1],
        ["", None, "x"],
        [],
    ],
)
def test_one_label_a_row_is_not_taken_for_several(labels: list[Any]) -> None:
    assert form_of(Table("rows", {"labels": labels}, list(range(len(labels)))), "labels") is None


def test_who_says_that_there_are_several_gets_them_at_the_commonest_separator() -> None:
    assert form_asked(table(labels=["a,b", "c,d", "a"]), "labels") == Form(("labels",), ",")
    assert sets_of(["a,b", "c,d", "a"]) == [("a", "b"), ("c", "d"), ("a",)]
    assert sets_of(["a", "b", "a"]) == [("a",), ("b",), ("a",)]


def test_other_rows_are_read_by_the_labels_that_are_known() -> None:
    rows = table(labels=["Salem, OR", "Dallas, TX;Salem, OR", ""])
    form = form_asked(rows, "labels", {"Salem, OR", "Dallas, TX"})
    assert read_labels(rows, form) == [("Salem, OR",), ("Dallas, TX", "Salem, OR"), ()]
    assert form_asked(table(labels=["a, b", "c"]), "labels", {"a", "b"}) == Form(("labels",), ",")
    assert form_asked(table(labels=["a, b", "c"]), "labels", {"a, b", "c"}) == Form(("labels",))


def test_spans_are_no_labels() -> None:
    assert form_of(table(spans=[[], [{"start": 0, "end": 3}]]), "spans") is None
    assert form_of(table(spans=[[[0, 3, "PER"]]]), "spans") is None


def test_none_of_the_labels_is_no_missing_value() -> None:
    assert sets_of(["a;b", "", "  ", None, math.nan, "a"]) == [("a", "b"), (), (), None, None, ("a",)]
    assert sets_of([["a"], [], None]) == [("a",), (), None]


def test_a_label_counts_once_a_row_whatever_the_spaces_and_empty_parts() -> None:
    assert sets_of(["b; a;;b ;", "a"]) == [("a", "b"), ("a",)]
    assert sets_of([[3.0, 2, "x "], [2]]) == [("2", "3", "x"), ("2",)]


def test_something_that_is_no_label_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"row 2: \{'name': 'a'\} in 'labels' is no label"):
        sets_of([["a"], [{"name": "a"}]])


def test_columns_of_0_and_1_are_recognised_and_read() -> None:
    rows = table(
        text=["t", "u", "v"], water=["1", "0", "0"], noise=[1.0, 0.0, 0.0], urgent=[True, False, True], n=[1, 2, 3]
    )
    form = indicators(rows)
    assert form == Form(("water", "noise", "urgent"))
    assert read_labels(rows, form) == [("noise", "urgent", "water"), (), ("urgent",)]
    assert indicators(rows, without=["noise", "urgent"]) is None


def test_columns_can_be_named() -> None:
    rows = table(text=["t", "u"], water=["1", "0"], noise=["0", "0"])
    assert columns_named(rows, "water, noise") == Form(("water", "noise"))
    assert columns_named(rows, "water") is None
    assert columns_named(rows, "water,smell") is None


def test_a_missing_or_wrong_cell_among_columns_of_0_and_1() -> None:
    rows = table(a=["1", "", "0"], b=["0", "1", None])
    assert read_labels(rows, Form(("a", "b"))) == [("a",), None, None]
    with pytest.raises(DataError, match=r"row 2: '2' in column 'b'; a column per label holds 1"):
        read_labels(table(a=["1", "0"], b=["0", "2"]), Form(("a", "b")))


def test_an_empty_cell_of_a_file_means_none_of_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,labels\nfirst,a;b\nsecond,\nthird,a\nlast,b\n", encoding="utf-8")
    rows = read(path)
    assert read_labels(rows, form_of(rows, "labels") or Form(())) == [("a", "b"), (), ("a",), ("b",)]
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "t", "labels": ["a"]}\n{"text": "u", "labels": []}\n{"text": "v"}\n', encoding="utf-8")
    rows = read(path)
    assert read_labels(rows, form_of(rows, "labels") or Form(())) == [("a",), (), None]


name = st.text("abcdeü ", min_size=1, max_size=6).map(str.strip).filter(bool)


@given(st.lists(st.sets(name, max_size=4), min_size=1, max_size=20))
def test_what_is_written_as_lists_or_joined_is_read_again(sets: list[set[str]]) -> None:
    wanted = [tuple(sorted(one)) for one in sets]
    assert sets_of([list(one) for one in sets]) == wanted
    rows = table(labels=[";".join(one) for one in sets])
    assert read_labels(rows, Form(("labels",), ";")) == wanted


def test_findings_say_how_many_labels_rows_have_and_which_are_rare_or_everywhere() -> None:
    train = [("a", "b"), ("a",), (), ("a", "c")] + [("a", "b")] * 4
    notes = about_labels({"train": train, "valid": [("a",), ("a", "b")], "test": []}, ("a", "b", "c"))
    assert notes == [
        "1.60 labels a row on average, 2 at most; 1 of 10 rows have none",
        "1 labels have fewer than 5 training rows: c (1)",
        "1 label is on every row of valid (2 rows): a",
        "1 label is on no row of valid (2 rows): c",
    ]


def test_the_example_has_eight_labels_and_rows_with_none() -> None:
    rows = read(TICKETS)
    form = form_of(rows, "labels")
    assert form == Form(("labels",), ";")
    found = read_labels(rows, form)
    assert len({label for one in found for label in one or ()}) == 8
    assert len(found) == 240
    assert sum(not one for one in found) > 10
    texts = [" ".join(text.casefold().split()) for text in rows.columns["text"]]
    assert len(set(texts)) == len(texts)
