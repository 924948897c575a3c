"""Reading rows: every format, encoding and mistake that a file of rows comes with. What was guessed is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from whet.data.read import Table, locate, read
from whet.errors import DataError, PathError

TEXTS = ["my card, lost", 'he said "no"', "two\nlines", "naïve café"]
LABELS = ["card", "no", "card", "no"]
PLAIN = 'text,label\n"my card, lost",card\n"he said ""no""",no\n"two\nlines",card\nnaïve café,no\n'


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("rows.csv", PLAIN, [2, 3, 4, 6]),
        ("rows.txt", PLAIN, [2, 3, 4, 6]),
        ("rows.CSV", PLAIN, [2, 3, 4, 6]),
        ("windows.csv", PLAIN.replace("\n", "\r\n").replace("two\r\nlines", "two\nlines"), [2, 3, 4, 6]),
        ("blank lines.csv", "\n\n" + PLAIN.replace("naïve", "\n\nnaïve"), [4, 5, 6, 10]),
        ("spaces.csv", PLAIN.replace("text,label", " text , label "), [2, 3, 4, 6]),
        (
            "tabs.csv",
            PLAIN.replace("text,label", "text\tlabel").replace(",card", "\tcard").replace(",no", "\tno"),
            None,
        ),
        (
            "rows.tsv",
            PLAIN.replace("text,label", "text\tlabel").replace(",card", "\tcard").replace(",no", "\tno"),
            None,
        ),
        ("rows.jsonl", jsonl(ROWS), [1, 2, 3, 4]),
        ("rows.ndjson", "\n" + jsonl(ROWS), [2, 3, 4, 5]),
        ("rows.json", json.dumps(ROWS, indent=2), [1, 2, 3, 4]),
        ("bom.csv", "\ufeff" + PLAIN, [2, 3, 4, 6]),
        ("bom.jsonl", "\ufeff" + jsonl(ROWS), [1, 2, 3, 4]),
        ("utf-16.csv", PLAIN.encode("utf-16"), [2, 3, 4, 6]),
        ("utf-16-be.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be"), [2, 3, 4, 6]),
        ("windows-1252.csv", PLAIN.encode("cp1252"), [2, 3, 4, 6]),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[:18] and "\n" not in value else "",
)
def test_the_same_rows_from_every_kind_of_file(file: Any, name: str, content: str | bytes, lines: list[int]) -> None:
    table = read(file(name, content))
    assert table.columns == {"text": TEXTS, "label": LABELS}
    assert table.lines == (lines or [2, 3, 4, 6])
    assert table.dropped == {}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (PLAIN.encode(), None),
        (("\ufeff" + PLAIN).encode(), None),
        (PLAIN.encode("utf-16"), "rows.csv is not UTF-8; read as utf-16"),
        (PLAIN.encode("cp1252"), "rows.csv is not UTF-8; read as cp1252"),
        (b"text;label\na, b;x\n", "rows.csv: fields are divided by a semicolon"),
        (b"text|label\na, b; c|x\n", "rows.csv: fields are divided by a bar"),
    ],
)
def test_what_was_guessed_is_said(file: Any, content: bytes, note: str | None) -> None:
    assert read(file("rows.csv", content)).notes == ([note] if note else [])


def test_a_delimiter_divides_evenly(file: Any) -> None:
    table = read(file("rows.csv", "text;label\none, two, three;a\nfour;b\nfive, six;a\n"))
    assert table.columns == {"text": ["one, two, three", "four", "five, six"], "label": ["a", "b", "a"]}


def test_windows_characters_are_the_ones_that_were_typed(file: Any) -> None:
    table = read(file("rows.csv", "text,label\n“quoted” – 5 €,x\n".encode("cp1252")))
    assert table.columns["text"] == ["“quoted” – 5 €"]


def test_rows_of_the_wrong_width_are_left_out_and_counted(file: Any) -> None:
    table = read(file("rows.csv", 'text,label\na,x\nb\nc,y,z\nd,e,f\n"two\nlines",x\ng\n'))
    assert table.columns == {"text": ["a", "two\nlines"], "label": ["x", "x"]}
    assert table.lines == [2, 6]
    assert table.dropped == {"1 fields where the header has 2": 2, "3 fields where the header has 2": 2}
    assert "2 rows left out: 1 fields where the header has 2" in table.findings()


def test_one_column_needs_no_quotes_and_keeps_empty_texts(file: Any) -> None:
    """Texts to predict often stand one a line; none may get lost, or predictions would slip."""
    table = read(file("texts.csv", 'text\nhello, world\n""\nbye\n'))
    assert table.columns == {"text": ["hello, world", "", "bye"]}
    assert table.lines == [2, 3, 4]


def test_a_nameless_column_gets_a_name(file: Any) -> None:
    assert list(read(file("rows.csv", ",text,label\n0,a,x\n")).columns) == ["column 1", "text", "label"]


def test_a_quote_in_the_middle_of_a_field_is_a_letter(file: Any) -> None:
    assert read(file("rows.csv", 'text,label\na 5" pipe,x\nb,y\n')).columns["text"] == ['a 5" pipe', "b"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.csv", "", "is empty: it needs a header line and rows, for example 'text,label'"),
        ("rows.csv", "\ufeff \n\n", "is empty"),
        ("rows.csv", "text,label\n", "has a header but no rows"),
        (
            "rows.csv",
            "text,label\na,b,c\n",
            "no row that fits its header (left out: 1 with 3 fields where the header has 2)",
        ),
        ("rows.csv", "text,label,text\na,b,c\n", "more than one column named text"),
        (
            "rows.csv",
            'text,label\na,x\n"b,y\nc,z\n',
            "line 3: a quotation mark opens a field there and nothing closes it",
        ),
        ("rows.csv", b"PK\x03\x04\0\0\0", "is not a text file"),
        ("rows.csv", bytes(range(1, 256)) * 9, "is not a text file"),
        ("rows.xlsx", b"PK\x03\x04\0\0\0", "is not a text file (it holds zero bytes); whet reads .csv, .tsv"),
        ("rows.jsonl", '{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("rows.jsonl", '{"text": "a"}\n"b"\n', "row 2: each row must be an object like"),
        ("rows.json", '[{"text": "a"},\n{]', "line 2: not JSON"),
        ("rows.json", "[]", "holds no rows"),
        ("rows.parquet", b"no parquet at all", "as Parquet"),
    ],
)
def test_what_is_no_table_says_why(file: Any, name: str, content: str | bytes, says: str) -> None:
    path = file(name, content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None], "label": [1, 2]}), path)
    table = read(path)
    assert table.columns == {"text": ["a", None], "label": [1, 2]}
    assert table.lines == [1, 2]
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    with pytest.raises(DataError, match="holds no rows"):
        read(path)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"text": ["a", "b", None], "label": [1, 2, 1]}),
        pd.DataFrame({"text": pd.array(["a", "b", None], dtype="string"), "label": pd.array([1, 2, 1], dtype="Int64")}),
        pd.DataFrame({"text": pd.Categorical(["a", "b", None]), "label": [1, 2, 1]}, index=[7, 7, 9]),
    ],
    ids=["plain", "nullable", "categorical"],
)
def test_pandas_frames(frame: pd.DataFrame) -> None:
    table = read(frame)
    assert table.columns == {"text": ["a", "b", None], "label": [1, 2, 1]}
    assert table.lines == [1, 2, 3]


def test_missing_values_of_every_pandas_kind_are_missing() -> None:
    frame = pd.DataFrame({"label": [1.0, float("nan")], "day": pd.array([None, pd.NaT]), "n": pd.array([pd.NA, 1])})
    assert read(frame).columns == {"label": [1.0, None], "day": [None, None], "n": [None, 1]}


@pytest.mark.parametrize(
    "rows",
    [
        {"text": ["a", "b"], "label": ["x", "y"]},
        {"text": ("a", "b"), "label": ("x", "y")},
        [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
        [("a", "x"), ("b", "y")],
        (["a", "x"], ["b", "y"]),
    ],
    ids=["mapping", "tuples in a mapping", "mappings", "pairs", "lists"],
)
def test_rows_from_memory(rows: Any) -> None:
    table = read(rows)
    assert table.columns == {"text": ["a", "b"], "label": ["x", "y"]}
    assert table.lines == [1, 2]


def test_texts_alone_and_rows_with_gaps() -> None:
    assert read(["a", "b"]).columns == {"text": ["a", "b"]}
    assert read([{"text": "a"}, {"label": "x"}]).columns == {"text": ["a", None], "label": [None, "x"]}


def test_a_table_is_read_as_it_is() -> None:
    table = Table("t", {"text": ["a"]}, [1])
    assert read(table) is table


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "cannot read rows from list"),
        ({}, "hold no rows"),
        ({"text": []}, "hold no rows"),
        ({"text": "abc"}, "cannot read rows from dict"),
        ({"text": ["a"], "label": ["x", "y"]}, "must be of one length (text has 1, label has 2)"),
        ([("a", "x"), ("b",)], "cannot read rows from list"),
        ([b"ab"], "cannot read rows from list"),
        (7, "cannot read rows from int: give a path, a pandas frame"),
        (pd.DataFrame({"text": []}), "the data frame holds no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named a"),
    ],
    ids=str,
)
def test_rows_from_memory_that_cannot_be_read(rows: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(rows)
    assert says in str(caught.value)


def test_a_path_that_is_not_there_names_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text("text,label\n")
    with pytest.raises(PathError, match=r"there is no file .*mesages\.csv; did you mean .*messages\.csv\?"):
        locate(tmp_path / "mesages.csv")
    with pytest.raises(PathError, match=r"did you mean .*messages\.csv\?"):
        read(str(tmp_path / "Messages.CSV"))
    with pytest.raises(PathError, match="give the path of a file of rows"):
        locate(tmp_path / "xyz")
    with pytest.raises(PathError, match=r"and no folder .*nowhere; give the path"):
        locate(tmp_path / "nowhere" / "messages.csv")
    with pytest.raises(PathError, match="is a folder; give one file of rows"):
        locate(tmp_path)
    with pytest.raises(PathError, match="no file of rows is given"):
        locate("")
