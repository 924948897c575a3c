"""Training, validation and test rows: stratified, seeded, and nothing on both sides."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.check import Rows
from whet.data.split import Dataset, prepare, split
from whet.errors import DataError, PathError

fewer = settings(deadline=None, max_examples=100)


def rows_of(pairs: list[tuple[str, str]]) -> Rows:
    texts, labels = zip(*pairs, strict=True)
    return Rows("rows.csv", texts, labels, tuple(range(1, len(pairs) + 1)))


def write(path: Path, pairs: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *pairs])
    return path


def some(labels: dict[str, int]) -> list[tuple[str, str]]:
    return [(f"{label} text {number}", label) for label, count in labels.items() for number in range(count)]


def parts_of(dataset: Dataset) -> dict[str, Rows]:
    return {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}


# Few different words, so that equal texts occur, also with other labels and in other case.
rows_with_repeats = st.lists(
    st.tuples(st.sampled_from([f"{word}{n}" for word in ("a", "A", "b ", "c  c", "c c") for n in range(12)]),
              st.sampled_from("xyz")),
    min_size=1, max_size=60,
).map(rows_of)  # fmt: skip
shares = st.floats(0.02, 0.45)


@fewer
@given(rows=rows_with_repeats, test=shares, valid=shares, seed=st.integers(0, 9))
def test_whatever_the_rows(rows: Rows, test: float, valid: float, seed: int) -> None:
    left, parts = split(rows, {"test": test, "valid": valid}, seed)
    everything = [left, *parts.values()]
    # Every row is in exactly one part, in its order.
    assert sorted(line for part in everything for line in part.lines) == list(rows.lines)
    assert all(list(part.lines) == sorted(part.lines) for part in everything)
    # A text stands on one side only, whatever its case, spaces and label.
    sides = defaultdict(set)
    for number, part in enumerate(everything):
        for text in part.texts:
            sides[" ".join(text.casefold().split())].add(number)
    assert all(len(where) == 1 for where in sides.values())
    # Every label can be learnt.
    assert set(left.labels) == set(rows.labels)


@fewer
@given(
    counts=st.lists(st.integers(10, 60), min_size=2, max_size=12),
    test=st.floats(0.02, 0.4),
    valid=st.floats(0.02, 0.4),
    seed=st.integers(0, 9),
)
def test_parts_are_as_large_as_their_shares_and_hold_the_labels_in_proportion(
    counts: list[int], test: float, valid: float, seed: int
) -> None:
    rows = rows_of(some({f"label{number}": count for number, count in enumerate(counts)}))
    asked = {"test": test, "valid": valid}
    left, parts = split(rows, asked, seed)
    for name, part in parts.items():
        assert len(part) == pytest.approx(max(1, asked[name] * len(rows)), abs=0.51)
        for label, count in Counter(rows.labels).items():
            assert part.labels.count(label) == pytest.approx(asked[name] * count, abs=1.01)
    assert len(left) == len(rows) - sum(len(part) for part in parts.values())


def test_a_large_split_is_exact() -> None:
    rows = rows_of(some({"a": 700, "b": 200, "c": 100}))
    left, parts = split(rows, {"test": 0.15, "valid": 0.15}, 0)
    assert Counter(left.labels) == {"a": 490, "b": 140, "c": 70}
    assert Counter(parts["test"].labels) == Counter(parts["valid"].labels) == {"a": 105, "b": 30, "c": 15}


def test_the_seed_decides_the_split() -> None:
    rows = rows_of(some({"a": 40, "b": 40}))
    splits = [split(rows, {"test": 0.2}, seed)[1]["test"].lines for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_a_small_file_still_gets_rows_to_validate_on() -> None:
    left, parts = split(rows_of(some({"a": 2, "b": 2})), {"test": 0.15, "valid": 0.15}, 0)
    assert (len(left), len(parts["test"]), len(parts["valid"])) == (2, 1, 1)
    _, parts = split(rows_of(some({"a": 2, "b": 1})), {"test": 0.15, "valid": 0.15}, 0)
    assert (len(parts["test"]), len(parts["valid"])) == (0, 1)


def test_a_share_of_0_gives_no_rows() -> None:
    dataset = prepare(some({"a": 20, "b": 20}), test=0.0, valid=0.25)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (30, 10, 0)


def test_labels_are_in_order_numbers_by_their_size() -> None:
    assert prepare(some({"b": 9, "a": 9, "C": 9})).labels == ("C", "a", "b")
    assert prepare(some({"10": 9, "9": 9, "-1": 9})).labels == ("-1", "9", "10")


def test_given_files_are_used_as_they_are(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", some({"a": 6, "b": 6}))
    valid = write(tmp_path / "valid.csv", [("new a", "a"), ("new b", "b")])
    test = write(tmp_path / "test.csv", [("other b", "b")])
    dataset = prepare(train, valid=str(valid), test=str(test))
    assert {name: len(part) for name, part in parts_of(dataset).items()} == {"train": 12, "valid": 2, "test": 1}
    assert dataset.valid.texts == ("new a", "new b")
    assert dataset.test.lines == (2,)
    assert dataset.findings.notes == ["label column: label", "text column: text"]


def test_one_file_and_one_share(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", [("other", "b")])
    dataset = prepare(some({"a": 20, "b": 20}), valid=0.25, test=str(test))
    assert {name: len(part) for name, part in parts_of(dataset).items()} == {"train": 30, "valid": 10, "test": 1}


def test_texts_that_stand_in_two_parts_are_reported(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", some({"a": 6, "b": 6}))
    valid = write(tmp_path / "valid.csv", [("A  TEXT 0", "a"), ("new", "b"), ("b text 1", "b")])
    test = write(tmp_path / "test.csv", [("New", "b")])
    notes = prepare(train, valid=str(valid), test=str(test)).findings.notes
    assert (
        "2 texts stand in both train and valid (for example 'a text 0'): scores on them say little about new texts"
        in notes
    )
    assert any(note.startswith("1 texts stand in both valid and test (for example 'new')") for note in notes)
    assert not any("train and test" in note for note in notes)


def test_an_unknown_label_in_a_given_file_is_named_with_its_place_and_the_nearest(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", some({"card": 6, "fee": 6}))
    valid = write(tmp_path / "valid.csv", [("one", "fee"), ("two\nlines", "card"), ("three", "cart")])
    with pytest.raises(DataError) as caught:
        prepare(train, valid=str(valid))
    for part in ("unknown label 'cart'", str(valid), "row 5", "did you mean card?"):
        assert part in str(caught.value)


def test_clean_labels_reaches_across_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", some({"card": 6, "fee": 6}))
    valid = write(tmp_path / "valid.csv", [("one", "Card"), ("two", "FEE")])
    assert prepare(train, valid=str(valid), clean_labels=True).valid.labels == ("card", "fee")
    with pytest.raises(DataError, match=r"unknown label 'Card'.*did you mean card"):
        prepare(train, valid=str(valid))


def test_given_files_must_have_the_same_columns(tmp_path: Path) -> None:
    valid = write(tmp_path / "valid.csv", [("one", "a")], header=("text", "labels"))
    with pytest.raises(PathError, match=r"valid\.csv has no column 'label'; did you mean labels\?"):
        prepare(some({"a": 6, "b": 6}), valid=str(valid))


@pytest.mark.parametrize(
    ("pairs", "options", "says"),
    [
        (some({"a": 9}), {}, "every row has the label 'a'; two or more different labels are needed"),
        (some({str(n): 1 for n in range(20)}), {}, "20 different labels in 20 rows, fewer than two rows each"),
        (some({"a": 2, "b": 1}), {}, "3 rows are too few to divide; give --valid and --test as files"),
        (some({str(n): 1 for n in range(5)}), {}, "no row can be spared for validation"),
        (
            some({"a": 9, "b": 9}),
            {"valid": 0.5, "test": 0.5},
            "the shares for test and valid leave no rows to train on",
        ),
    ],
)
def test_too_little_to_learn_from(pairs: list[tuple[str, str]], options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(pairs, **options)
    assert says in str(caught.value)


def test_labels_with_few_rows_are_reported() -> None:
    notes = prepare(some({"a": 40, "rare": 4, "rarer": 1}), test=0.0).findings.notes
    assert "2 labels have fewer than 5 training rows: rarer (1), rare (3)" in notes


def test_a_test_that_gets_no_row_is_reported() -> None:
    dataset = prepare(some({"a": 2, "b": 1, "c": 1}))
    assert (len(dataset.valid), len(dataset.test)) == (1, 0)
    assert "no row could be spared for the test: every label needs a row to train on" in dataset.findings.notes


PRINT_FINGERPRINTS = """
import sys
from whet.data.split import prepare
dataset = prepare(sys.argv[1], valid=sys.argv[2], seed=3)
print(dataset.fingerprints, dataset.findings.notes)
"""


def test_fingerprints_and_findings_are_the_same_in_every_process(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.csv", some({"a": 20, "b": 20, "ü": 20}))
    both = write(tmp_path / "both.csv", [(f"{label} text {number}", label) for label in "ab" for number in range(10)])
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINT_FINGERPRINTS, str(file), str(both)],
            env={"PYTHONHASHSEED": str(seed)}, capture_output=True, check=True,
        ).stdout
        for seed in (1, 2)
    ]  # fmt: skip
    dataset = prepare(file, valid=str(both), seed=3)
    here = f"{dataset.fingerprints} {dataset.findings.notes}\n".encode()
    assert printed == [here, here]
    assert b"texts stand in both train and valid (for example 'a text 0')" in here


@pytest.mark.parametrize(
    "changed",
    [
        [("a", "x"), ("b", "x")],
        [("a", "x"), ("b ", "y")],
        [("b", "y"), ("a", "x")],
        [("a", "x")],
        [("ab", "x"), ("", "y")],
        [("a", "y"), ("b", "x")],
    ],
    ids=str,
)
def test_fingerprints_change_with_the_rows(changed: list[tuple[str, str]]) -> None:
    rows = rows_of([("a", "x"), ("b", "y")])
    assert rows_of(changed).fingerprint != rows.fingerprint
    assert Rows("other.csv", rows.texts, rows.labels, (7, 9)).fingerprint == rows.fingerprint
