"""Rows with any number of labels: their columns, which rows are left out, spellings, what cannot be learnt from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from whet.config import Settings
from whet.data.check import Columns, Findings, Rows, Wishes
from whet.data.read import Table, read
from whet.data.reading_sets import LabelSets
from whet.data.split import Dataset, prepare
from whet.errors import DataError, PathError, SettingsError
from whet.tasks.multi_label import MultiLabel
from whet.tasks.registry import recognise

TICKETS = Path(__file__).parent.parent.parent / "examples" / "tickets.csv"
TEXTS = [f"some words of a person, number {n}" for n in range(12)]
SETS = [["a", "b"], ["a"], [], ["b"], ["c"], ["a", "c"]] * 2


def joined(mark: str) -> list[str]:
    return [mark.join(one) for one in SETS]


def indicated() -> dict[str, list[int]]:
    return {label: [int(label in one) for one in SETS] for label in "abc"}


def task_of(columns: dict[str, list[Any]], **options: Any) -> type:
    return recognise(read({"text": TEXTS, **columns}), Settings(**options))


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"labels": SETS}, {}),
        ({"labels": joined(";")}, {}),
        ({"tags": joined("|")}, {}),
        ({"label": joined(", ")}, {}),
        ({"kind": joined(";"), "id": TEXTS}, {}),
        (indicated(), {}),
        (indicated(), {"label": "a, c"}),
        ({"label": ["a", "b"] * 6}, {"task": "multi-label"}),
    ],
)
def test_the_task_is_recognised_from_the_columns(columns: dict[str, list[Any]], options: dict[str, Any]) -> None:
    assert task_of(columns, **options) is MultiLabel


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["a", "b"] * 6},
        {"label": ["a", "b"] * 6, "urgent": [0, 1] * 6, "new": [1, 0] * 6},
        {"label": ["Salem, OR", "Dallas, TX"] * 6},
        {"label": [0, 1] * 6},
    ],
)
def test_one_label_a_row_stays_classification(columns: dict[str, list[Any]]) -> None:
    assert task_of(columns) is not MultiLabel


def test_the_columns_are_found_and_said() -> None:
    columns, notes = LabelSets.columns(read({"said": TEXTS, **indicated()}), Wishes())
    assert columns == Columns("said", "a,b,c")
    assert notes == ["3 columns of 0 and 1, one per label: a, b, c", "text column: said"]
    columns, notes = LabelSets.columns(read({"text": TEXTS, "tags": joined(";")}), Wishes())
    assert columns == Columns("text", "tags")
    assert notes == ["label column: tags, any number of labels joined by ';'", "text column: text"]
    columns, notes = LabelSets.columns(read({"text": TEXTS, **indicated()}), Wishes(label="c,a", text="text"))
    assert (columns, notes) == (Columns("text", "c,a"), [])


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        (Wishes(label="a,d"), "has no column 'd'"),
        (Wishes(label="lables"), "has no column 'lables'"),
        (Wishes(text="said", label="a,b"), "has no column 'said'"),
        (Wishes(text="a", label="a,b"), "both name the column 'a'"),
    ],
)
def test_columns_that_are_not_there(wishes: Wishes, says: str) -> None:
    with pytest.raises(PathError, match=says):
        LabelSets.columns(read({"text": TEXTS, **indicated()}), wishes)


def checked(labels: list[Any], **options: Any) -> tuple[Rows, Findings]:
    table, findings = read({"text": TEXTS[: len(labels)], "labels": labels}), Findings()
    return LabelSets.check(table, Columns("text", "labels"), findings, **options), findings


def test_a_row_without_a_value_is_left_out_and_counted_and_one_with_none_is_kept() -> None:
    rows, findings = checked([["a"], None, [], ["b", "a"], float("nan")])
    assert rows.labels == (("a",), (), ("a", "b"))
    assert rows.lines == (1, 3, 4)
    assert dict(findings.dropped) == {"no value for the labels": 2}


def test_an_empty_text_is_left_out_with_its_labels() -> None:
    table, findings = Table("rows", {"text": ["t", " ", "u"], "labels": [["a"], ["b"], ["c"]]}, [2, 3, 4]), Findings()
    rows = LabelSets.check(table, Columns("text", "labels"), findings)
    assert (rows.labels, rows.lines) == ((("a",), ("c",)), (2, 4))
    assert findings.dropped == {"empty text": 1}


def test_spellings_that_differ_only_in_case_are_refused_or_merged() -> None:
    sets = [["Water", "noise"], ["water"], ["WATER", "water", "noise"], ["water"]]
    with pytest.raises(DataError, match=r"'water' \(3 rows\) and 'Water' \(1 rows\).*--clean-labels"):
        checked(sets)
    rows, findings = checked(sets, clean_labels=True)
    assert rows.labels == (("noise", "water"), ("water",), ("noise", "water"), ("water",))
    assert findings.notes == ["2 labels were merged into another spelling of the same words"]
    rows, _ = checked([["NOISE"], []], clean_labels=True, known=("noise", "water"))
    assert rows.labels == (("noise",), ())


def test_a_column_that_never_holds_a_1_is_said_to_be_no_label() -> None:
    findings = Findings()
    rows = LabelSets.check(
        read({"text": TEXTS[:2], "a": [1, 0], "b": [0, 1], "c": [0, 0]}), Columns("text", "a,b,c"), findings
    )
    assert LabelSets.names(rows, Columns("text", "a,b,c")) == ("a", "b")
    assert findings.notes == ["column 'c' holds no 1: it is no label here"]


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([[], []] * 6, "no row has a label; .*two or more different ones"),
        ([["a"], []] * 6, "no row has any label but 'a'.*--task classification"),
        ([["a", "b"]] * 12, r"every row has the same labels \(a, b\)"),
        ([[f"label{n}", "x"] for n in range(12)], "13 different labels in 12 rows"),
    ],
)
def test_too_little_to_learn_from(sets: list[Any], says: str) -> None:
    rows, findings = checked(sets)
    with pytest.raises(DataError, match=says):
        LabelSets.refuse_too_little(rows, findings)


def test_an_unknown_label_is_named_with_its_row_and_the_nearest() -> None:
    rows, _ = checked([["water"], ["noise", "watr"]])
    with pytest.raises(DataError, match=r"unknown label 'watr' \(the given columns, row 2\).*did you mean water"):
        LabelSets.refuse_unknown(rows, ("noise", "water"))


def prepared(source: Any, **options: Any) -> Dataset:
    return prepare(source, reading=MultiLabel, **options)


def test_the_example_is_divided_with_its_labels_in_proportion() -> None:
    dataset = prepared(TICKETS, seed=3)
    assert len(dataset.labels) == 8
    everything = [
        label for part in (dataset.train, dataset.valid, dataset.test) for row in part.labels for label in row
    ]
    for part in (dataset.valid, dataset.test):
        for label in dataset.labels:
            assert sum(label in row for row in part.labels) == pytest.approx(0.15 * everything.count(label), abs=2)
    assert "1.53 labels a row on average, 4 at most; 20 of 240 rows have none" in dataset.findings.notes


def test_other_files_are_read_like_the_training_rows(tmp_path: Path) -> None:
    for name, labels in (("train", joined(";")), ("valid", ["a", "b;c", ""]), ("test", ["c", "", "a"])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows(
                [("text", "labels"), *zip([f"{name} {t}" for t in TEXTS], labels, strict=False)]
            )
    parts = {name: str(tmp_path / f"{name}.csv") for name in ("valid", "test")}
    dataset = prepared(tmp_path / "train.csv", **parts)
    assert dataset.valid.labels == (("a",), ("b", "c"), ())
    assert dataset.test.labels == (("c",), (), ("a",))
    assert "1 label is on no row of test (3 rows): b" in dataset.findings.notes


def test_options_that_mean_nothing_here_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"calibrate does nothing"):
        task_of({"labels": SETS}, calibrate=True)
    with pytest.raises(SettingsError, match=r"multi-label is measured by micro_f1, macro_f1, exact_match, log_loss"):
        task_of({"labels": SETS}, metric="accuracy")
