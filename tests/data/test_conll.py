"""Files with a word a line: which columns, which lines are no words, and what is left out with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from whet.data.read import read
from whet.errors import DataError

FOUR = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
call NN I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
. . O O
"""
UNIVERSAL = """# sent_id = 1
# text = Don't go
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_

1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_
"""


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def make(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    return make


@pytest.mark.parametrize("name", ["rows.conll", "rows.txt", "rows.iob"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("between", [" ", "\t"])
def test_the_last_column_holds_the_tags(file: Any, name: str, ends: str, between: str) -> None:
    table = read(file(name, FOUR.replace(" ", between).replace("\n", ends)))
    assert table.columns["tokens"] == [["EU", "rejects", "call"], ["Peter", "Blackburn", "."]]
    assert table.columns["tags"] == [["I-ORG", "O", "O"], ["I-PER", "I-PER", "O"]]
    assert table.columns["column 2"][1] == ["NNP", "NNP", "."]
    assert table.lines == [3, 7]
    assert any("the last holds the tags" in note for note in table.notes)


def test_a_word_may_hold_a_space_where_tabs_divide(file: Any) -> None:
    table = read(file("rows.conll", "New York\tB-LOC\nis\tO\n\nfar\tO\n"))
    assert table.columns == {"tokens": [["New York", "is"], ["far"]], "tags": [["B-LOC", "O"], ["O"]]}


def test_universal_columns_have_their_names_and_ranges_are_no_words(file: Any) -> None:
    table = read(file("rows.conllu", UNIVERSAL))
    assert table.columns["tokens"] == [["Do", "n't", "go"], ["#"]]
    assert table.columns["tags"] == [["AUX", "PART", "VERB"], ["SYM"]]
    assert table.lines == [4, 9]


def test_a_hash_is_a_word_like_any_other(file: Any) -> None:
    assert read(file("rows.conll", "# O\nwon B-X\n\na O\n")).columns["tokens"] == [["#", "won"], ["a"]]


def test_a_sentence_with_a_line_that_lacks_a_field_is_left_out_and_named(file: Any) -> None:
    table = read(file("rows.conll", "a O\nb O\n\nc\nd O\n\ne O\n"))
    assert table.columns["tokens"] == [["a", "b"], ["e"]]
    assert table.dropped == {"a line without 2 fields": 1}
    assert any("line 4" in note for note in table.notes)


def test_a_file_of_single_words_is_refused(file: Any) -> None:
    with pytest.raises(DataError, match="a word and a tag"):
        read(file("rows.conll", "a\nb\n\nc\n"))


@pytest.mark.parametrize(
    "content",
    [
        "text\tlabel\nmy card\tcard\n\nno way\tno\n",
        "text,label\na b,x\nc d,y\n",
        "text;label\n\na b;x\n\nc d;y\n",
        "text\nhello there\n\ngood bye\n",
    ],
)
def test_a_table_stays_a_table_whatever_blank_lines_it_has(file: Any, content: str) -> None:
    assert "text" in read(file("rows.txt", content)).columns
