"""Losses of a language model are those of plain transformers, row by row; what is masked is the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import rows_of_messages
from whet.data.check import Rows
from whet.data.store import TokenStore, tokenize
from whet.engine.language import MASKED, NOT_ASKED, losses, masked_tokens, next_tokens
from whet.models.load import load_tokenizer, quiet_libraries
from whet.models.reference import find_model

CPU = torch.device("cpu")
TEXTS = tuple(row["text"] for row in rows_of_messages()[:40])


def store_of(folder: Path) -> TokenStore:
    rows = Rows("texts", TEXTS, (), tuple(range(len(TEXTS))))
    return tokenize(rows, load_tokenizer(find_model(str(folder))), 96)


def whole(folder: Path, auto: str) -> Any:
    import transformers

    with quiet_libraries():
        return getattr(transformers, auto).from_pretrained(folder).eval()


@pytest.mark.parametrize("token_budget", [8, 100, 100_000])
def test_the_loss_of_the_next_token_is_that_of_transformers(tiny_gpt2: Path, token_budget: int) -> None:
    model, store = whole(tiny_gpt2, "AutoModelForCausalLM"), store_of(tiny_gpt2)
    found = losses(model, next_tokens(store), token_budget, CPU)
    for row in range(len(store)):
        ids = torch.from_numpy(store.ids[store.starts[row] : store.starts[row + 1]].astype(np.int64))[None]
        assert found.tokens[row] == ids.shape[1] - 1
        if ids.shape[1] > 1:
            with torch.no_grad():
                mean = model(input_ids=ids, labels=ids).loss
            assert found.sums[row] / found.tokens[row] == pytest.approx(float(mean), rel=1e-4)


def test_a_large_vocabulary_makes_small_batches_and_changes_nothing(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = whole(tiny_gpt2, "AutoModelForCausalLM"), next_tokens(store_of(tiny_gpt2))
    at_once = losses(model, asked, 100_000, CPU)
    shapes: list[int] = []
    model.register_forward_hook(lambda _, __, made: shapes.append(made.logits.numel()))
    monkeypatch.setattr("whet.engine.language.LOGITS_AT_ONCE", 96 * model.config.vocab_size)
    np.testing.assert_allclose(losses(model, asked, 100_000, CPU).sums, at_once.sums, rtol=1e-5)
    assert max(shapes) <= 96 * model.config.vocab_size
    assert len(shapes) > 5


def test_15_percent_of_each_row_are_masked_always_the_same_and_never_a_special_token(tiny_bert: Path) -> None:
    store, tokenizer = store_of(tiny_bert), load_tokenizer(find_model(str(tiny_bert)))
    unknown = tokenizer.unk_token_id
    asked = masked_tokens(store, unknown, tokenizer.all_special_ids)
    chosen = asked.targets != NOT_ASKED
    assert (asked.store.ids[chosen] == unknown).all()
    assert (asked.store.ids[~chosen] == store.ids[~chosen]).all()
    assert (asked.targets[chosen] == store.ids[chosen]).all()
    assert not np.isin(asked.targets[chosen], tokenizer.all_special_ids).any()
    for start, end in zip(store.starts[:-1], store.starts[1:], strict=True):
        plain = int((~np.isin(store.ids[start:end], tokenizer.all_special_ids)).sum())
        assert chosen[start:end].sum() == min(plain, max(1, round(MASKED * plain)))
    again = masked_tokens(store, unknown, tokenizer.all_special_ids)
    assert (again.targets == asked.targets).all()


def test_the_loss_of_masked_tokens_is_that_of_transformers(tiny_mlm: Path) -> None:
    model, store = whole(tiny_mlm, "AutoModelForMaskedLM"), store_of(tiny_mlm)
    tokenizer = load_tokenizer(find_model(str(tiny_mlm)))
    asked = masked_tokens(store, tokenizer.mask_token_id, tokenizer.all_special_ids)
    found = losses(model, asked, 200, CPU)
    for row, (start, end) in enumerate(zip(store.starts[:-1], store.starts[1:], strict=True)):
        ids, labels = (
            torch.from_numpy(part[start:end].astype(np.int64))[None] for part in (asked.store.ids, asked.targets)
        )
        with torch.no_grad():
            mean = float(model(input_ids=ids, labels=labels).loss)
        assert found.sums[row] == pytest.approx(mean * found.tokens[row], rel=1e-4)
