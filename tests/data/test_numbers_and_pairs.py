"""Rows of numbers and of pairs: which task they are of, which columns, and what has to be mended in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.config import Settings
from whet.data.check import Rows
from whet.data.numbers import number_of, what_is_wrong
from whet.data.read import Table, read
from whet.data.split import Dataset, prepare
from whet.data.store import Encoder, separator, tokenize
from whet.errors import DataError, PathError, SettingsError
from whet.models.load import load_tokenizer
from whet.models.reference import find_model
from whet.tasks.registry import TASKS, recognise

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "pairs.csv"
WORDS = ("red", "green", "blue", "old", "new", "small", "big", "late", "early", "warm")


def table(**columns: list[Any]) -> Table:
    return read({name: list(values) for name, values in columns.items()})


def texts(count: int, what: str = "text") -> list[str]:
    return [f"{what} {WORDS[number % 10]} number {number}" for number in range(count)]


def task_of(rows: Table, **options: Any) -> str:
    return recognise(rows, Settings.model_validate(options)).name


def prepared(rows: Table, **options: Any) -> Dataset:
    kind = recognise(rows, Settings.model_validate({k: v for k, v in options.items() if k in Settings.model_fields}))
    return prepare(rows, reading=kind, **{name: value for name, value in options.items() if name != "task"})


A, B = texts(40, "one"), texts(40, "other")
TWO = [number % 2 for number in range(40)]
FRACTIONS = [number / 4 + 0.1 for number in range(40)]


@pytest.mark.parametrize(
    ("rows", "task"),
    [
        (table(text=A, label=[str(n) for n in TWO]), "classification"),
        (table(text=A, label=TWO), "classification"),
        (table(text=A, stars=[1 + n % 5 for n in range(40)]), "classification"),
        (table(text=A, label=[float(n) for n in TWO]), "classification"),
        (table(text=A, label=FRACTIONS), "regression"),
        (table(text=A, price=FRACTIONS), "regression"),
        (table(text=A, label=list(range(40))), "regression"),
        (table(text=A, price=["1,5", "2,25"] * 20), "regression"),
        (table(text_a=A, text_b=B, label=TWO), "pair-classification"),
        (table(premise=A, hypothesis=B, label=["yes", "no"] * 20), "pair-classification"),
        (table(question1=A, question2=B, label=TWO), "pair-classification"),
        (table(sentence1=A, sentence2=B, score=FRACTIONS), "pair-regression"),
        (table(query=A, passage=B, score=[n % 6 for n in range(40)]), "pair-regression"),
        (table(Text_A=A, Text_B=B, label=FRACTIONS), "pair-regression"),
    ],
)
def test_the_columns_tell_the_task(rows: Table, task: str) -> None:
    assert task_of(rows) == task


def test_the_task_and_its_columns_can_be_named() -> None:
    rows = table(left_side=A, right_side=B, label=FRACTIONS)
    assert task_of(rows) == "regression"
    named: dict[str, Any] = {"text": "left_side", "text_b": "right_side"}
    assert task_of(rows, **named) == "pair-regression"
    assert task_of(rows, task="classification") == "classification"
    found = prepared(rows, **named)
    assert found.columns.given() == {"text": "left_side", "text_b": "right_side", "label": "label"}


def test_options_that_do_nothing_for_a_task_are_refused_with_the_reason() -> None:
    numbers, labels = table(text=A, label=FRACTIONS), table(text=A, label=TWO)
    for name, value in {
        "class_weight": "balanced",
        "label_smoothing": 0.1,
        "calibrate": True,
        "clean_labels": True,
    }.items():
        with pytest.raises(SettingsError, match=rf"regression, where {name} does nothing: .+ another --task"):
            task_of(numbers, **{name: value})
        assert task_of(labels, **{name: value}) == "classification"
    with pytest.raises(SettingsError, match="text_b does nothing"):
        task_of(labels, task="classification", text_b="label")


@pytest.mark.parametrize("name", TASKS)
def test_a_metric_of_another_task_is_refused_with_those_of_this(name: str) -> None:
    kind = TASKS[name]
    # The last: of tags some bear scores of classes too, which shows with the rows.
    other = [metric for one in TASKS.values() for metric in one.metrics if metric not in kind.metrics][-1]
    with pytest.raises(SettingsError, match=f"metric = {other}: {name} is measured by {', '.join(kind.metrics)}"):
        kind.chosen_by(Settings.model_validate({"metric": other}))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("12 kg", "unit"), ("€ 3.50", "unit"), ("5%", "unit"), ("3,5", "decimal comma"),
        ("1,234.5", "divides its digits"), ("1 234", "divides its digits"), ("inf", "infinite"),
        (float("-inf"), "infinite"), ("about ten", "no number"), ("3 out of 5", "no number"), (True, "no number"),
        ("--", "no number"),
    ],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused_by_row_with_the_cure(cell: Any, why: str) -> None:
    values: list[Any] = [*FRACTIONS]
    values[7] = cell
    with pytest.raises(DataError, match=rf"row 8 \('.*'\) .*{why}"):
        prepared(table(text=A, price=values), task="regression")


def test_every_kind_of_wrong_number_is_named_at_once() -> None:
    values = ["1,5"] * 5 + ["2 m"] + [str(n + 0.5) for n in range(34)]
    with pytest.raises(DataError) as caught:
        prepared(table(text=A, length=values), label="length", task="regression")
    assert "row 1 ('1,5'), row 2 ('1,5'), row 3 ('1,5') and 2 more rows has a decimal comma" in str(caught.value)
    assert "row 6 ('2 m') has a unit" in str(caught.value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_as_it_is_written(value: float) -> None:
    assert number_of(repr(value)) == number_of(value) == value
    assert what_is_wrong(repr(value)) is None


def test_missing_numbers_are_counted_and_constant_ones_refused() -> None:
    values: list[Any] = [*FRACTIONS]
    values[3], values[4] = None, ""
    found = prepared(table(text=A, price=values))
    assert found.findings.dropped == {"no number": 2}
    assert found.labels == ("price",)
    assert any("numbers from 0.1 to" in note for note in found.findings.notes)
    with pytest.raises(DataError, match=r"every row has the number 3 \(rows 1 to 40\)"):
        prepared(table(text=A, price=[3.0] * 40), task="regression", label="price")


def test_a_split_of_numbers_has_small_and_large_ones_in_each_part() -> None:
    found = prepared(table(text=texts(200), price=[n + 0.5 for n in range(200)]))
    for part in (found.valid, found.test):
        assert len(part) == 30
        assert 70 < sum(part.labels) / len(part) < 130


def test_pairs_without_one_text_are_counted() -> None:
    first, second = [*A], [*B]
    first[0], second[1], second[2] = " ", "", "  "
    found = prepared(table(text_a=first, text_b=second, label=TWO))
    assert found.findings.dropped == {"empty text": 1, "empty second text": 2}
    assert len(found.train) + len(found.valid) + len(found.test) == 37
    by_text = dict(zip(A, B, strict=True))
    for part in (found.train, found.valid, found.test):
        assert [by_text[text] for text in part.texts] == list(part.seconds)


def test_a_pair_and_its_reverse_stay_on_one_side_of_a_split() -> None:
    found = prepared(table(text_a=[*A, *B], text_b=[*B, *[text.upper() for text in A]], label=[*TWO, *TWO]))
    parts = [set(part.keys) for part in (found.train, found.valid, found.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert sum(map(len, parts)) == 40


def test_pairs_in_both_parts_are_reported_and_swapped_ones_counted(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    lines = [f"{B[0]},{A[0]},0", f"{B[1]},{A[1]},1", f"{A[2]},{B[2]},0", "new one,another,1"]
    path.write_text("text_a,text_b,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = prepared(table(text_a=A, text_b=B, label=TWO), test=str(path), valid=0.1)
    said = " ".join(note for note in found.findings.notes if "stand in both" in note)
    assert "3 pairs of texts stand in both train and test" in said or "pairs of texts stand in both" in said
    assert "of them swapped" in said


def test_columns_of_pairs_that_are_not_there_are_named() -> None:
    with pytest.raises(PathError, match=r"no column 'text_c'.*text_b"):
        prepared(table(text_a=A, text_b=B, label=TWO), text="text_a", text_b="text_c")
    with pytest.raises(DataError, match="--text NAME --text-b NAME"):
        prepared(table(text=A, label=TWO), task="pair-classification")


@pytest.mark.parametrize("given", ["a text", ["a text"], [("a",)], [("a", "b", "c")], [("a", 3)]])
def test_what_is_no_pair_is_refused(given: Any) -> None:
    with pytest.raises(DataError, match="list of pairs"):
        TASKS["pair-regression"].items(given)


def test_the_longer_text_of_a_pair_is_cut_and_counted(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(find_model(str(tiny_bert)))
    long, short = " ".join(["card"] * 30), "the order"
    rows = Rows("pairs", (long, short, short), (), (1, 2, 3), (short, long, short))
    store = tokenize(rows, tokenizer, 16, segments=True)
    assert store.truncated == 2
    assert store.tokens_lost == 2 * (30 + 2 + 3 - 16)
    assert store.lengths.tolist() == [16, 16, 7]
    batch = store.batch(store.lengths.argsort()[:0:-1][:1])
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
    first, second = (tokenizer.decode(store.ids[store.starts[n] : store.starts[n + 1]]) for n in (0, 1))
    assert first.count("card") == second.count("card") == 11
    assert first.count("order") == second.count("order") == 1


def test_segments_are_those_of_the_tokenizer(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(find_model(str(tiny_bert)))
    pairs = [("my card", "the order"), ("where is it", "card")]
    rows = Rows("pairs", tuple(a for a, _ in pairs), (), (1, 2), tuple(b for _, b in pairs))
    store = Encoder(tokenizer, 96, segments=True).tokens(rows)
    expected = tokenizer(
        [a for a, _ in pairs], [b for _, b in pairs], padding=True, pad_to_multiple_of=8, return_tensors="pt"
    )
    batch = store.batch(store.starts[:-1] * 0 + [0, 1])
    assert {name: value.tolist() for name, value in batch.items()} == {n: v.tolist() for n, v in expected.items()}
    assert store.take(store.starts[:1] * 0 + 1).segments is not None
    assert store.fingerprint != Encoder(tokenizer, 96).tokens(rows).fingerprint


def test_where_a_tokenizer_divides_nothing_a_line_break_does(tiny_bert: Path, tiny_gpt2: Path) -> None:
    assert separator(load_tokenizer(find_model(str(tiny_bert)))) == ""
    assert separator(load_tokenizer(find_model(str(tiny_gpt2)))) == "\n"


def test_the_example_of_pairs_is_as_it_is_described() -> None:
    rows = read(EXAMPLE)
    scores = [float(score) for score in rows.columns["score"]]
    assert len(rows) == 200
    assert (min(scores), max(scores)) == (0, 5)
    every = [text.casefold() for name in ("text_a", "text_b") for text in rows.columns[name]]
    assert len(set(every)) == len(every), "a sentence that stands twice would let a split leak"
    assert all(sum(low <= score <= low + 1 for score in scores) >= 25 for low in range(5))
    assert task_of(rows) == "pair-regression"
