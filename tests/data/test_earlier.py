"""Rows of an earlier task are read like those to learn from, whatever their columns are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from whet.data.check import Columns, Findings
from whet.data.earlier import MOST, read_earlier
from whet.data.split import prepare
from whet.errors import DataError

TASK = Columns("text", "label")


def write(path: Path, header: str, rows: int = 30) -> Path:
    path.write_text(header + "\n" + "".join(f"some words {n},{'xy'[n % 2]}\n" for n in range(rows)), encoding="utf-8")
    return path


def test_its_columns_are_those_of_the_task_where_it_has_them(tmp_path: Path) -> None:
    path = tmp_path / "earlier.csv"
    path.write_text("sentence,text,label,topic\n" + "".join(f"no,yes {n},{n % 2},z\n" for n in range(30)))
    findings = Findings()
    found = read_earlier(str(path), TASK, findings)
    assert found.rows.texts[:2] == ("yes 0", "yes 1")
    assert found.labels == ("0", "1")
    assert findings.notes == []


def test_else_they_are_recognised_and_the_guess_is_noted(tmp_path: Path) -> None:
    path, findings = write(tmp_path / "earlier.csv", "sentence,topic"), Findings()
    found = read_earlier(str(path), TASK, findings)
    assert found.rows.labels[:2] == ("x", "y")
    assert findings.notes == [
        f"to remember, {path.name}: {name}" for name in ("label column: topic", "text column: sentence")
    ]


def test_what_is_left_out_is_noted_and_not_counted_among_the_rows_to_learn_from(tmp_path: Path) -> None:
    path, findings = write(tmp_path / "earlier.csv", "text,label"), Findings()
    path.write_text(path.read_text() + ",x\nwords,\n")
    assert read_earlier(str(path), TASK, findings).found == 30
    assert findings.notes == [
        f"to remember, {path.name}: 1 rows left out: empty text",
        f"to remember, {path.name}: 1 rows left out: no label",
    ]
    assert not findings.dropped


def test_of_many_rows_some_are_drawn_by_the_seed_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "earlier.csv", "text,label", MOST + 500)
    found = [read_earlier(str(path), TASK, Findings(), seed=seed) for seed in (0, 0, 1)]
    assert len(found[0].rows) == MOST
    assert found[0].found == MOST + 500
    assert list(found[0].rows.lines) == sorted(found[0].rows.lines)
    assert found[0] == found[1]
    assert found[0].rows.lines != found[2].rows.lines


def test_labels_that_differ_in_case_are_refused_with_the_file_named(tmp_path: Path) -> None:
    path = write(tmp_path / "earlier.csv", "text,label")
    path.write_text(path.read_text() + "words,X\n")
    with pytest.raises(DataError, match=r"earlier\.csv: labels differ only in case"):
        read_earlier(str(path), TASK, Findings())
    assert read_earlier(str(path), TASK, Findings(), clean_labels=True).labels == ("x", "y")


def test_a_data_set_keeps_them_apart_with_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    rows, earlier = write(tmp_path / "rows.csv", "text,label"), write(tmp_path / "earlier.csv", "text,label", 40)
    plain, found = prepare(rows), prepare(rows, remember=str(earlier))
    assert plain.earlier is None
    assert found.earlier is not None
    assert len(found.earlier.rows) == 40
    assert found.fingerprints == plain.fingerprints | {"remember": found.earlier.rows.fingerprint}
