"""Rows become one flat store of tokens, whatever the lots in which they were tokenised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tiny import make_tokenizer, rows_of_messages
from whet.data import store
from whet.data.check import Rows
from whet.data.store import tokenize

TEXTS = tuple(row["text"] for row in rows_of_messages())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    special = {"pad_token": "[pad]", "unk_token": "[unk]", "cls_token": "[cls]", "sep_token": "[sep]"}
    return make_tokenizer(special, "[cls] $A [sep]")


def rows_of(texts: tuple[str, ...]) -> Rows:
    return Rows("rows", texts, ("a",) * len(texts), tuple(range(2, len(texts) + 2)))


def test_lots_change_nothing_and_progress_is_told(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(TEXTS[:23])
    whole = tokenize(rows, tokenizer, 6)
    monkeypatch.setattr(store, "LOT", 5)
    told: list[tuple[int, int]] = []
    lots = tokenize(rows, tokenizer, 6, lambda done, of: told.append((done, of)))
    assert told == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]
    assert lots.fingerprint == whole.fingerprint
    assert (lots.truncated, lots.tokens_lost) == (whole.truncated, whole.tokens_lost)
    assert whole.truncated > 0
    for row in range(23):
        ids = whole.ids[whole.starts[row] : whole.starts[row + 1]]
        expected = tokenizer(rows.texts[row], truncation=True, max_length=6)["input_ids"]
        np.testing.assert_array_equal(ids, expected)


def test_no_rows_make_an_empty_store(tokenizer: Any) -> None:
    made = tokenize(rows_of(()), tokenizer, 6)
    assert len(made) == 0
    assert made.ids.dtype == np.int32
    assert made.lengths.tolist() == []
