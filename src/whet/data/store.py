"""Tokenised rows in one flat array: read once, batched without a copy of what is not needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from whet.data.check import Rows

LOT = 10_000
"""Rows that are tokenised between two words on how far it is."""
STEP = 8
"""Padded widths are multiples of this: few distinct shapes, each of which costs a processor a new kernel."""


@dataclass(frozen=True)
class TokenStore:
    """Token ids of all rows, flat; row r is `ids[starts[r]:starts[r + 1]]`.

    `truncated` rows were longer than `max_length` tokens and lost `tokens_lost` in all.
    """

    ids: np.ndarray
    starts: np.ndarray
    pad: int
    max_length: int
    truncated: int
    tokens_lost: int
    ragged: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the tokens, row by row, and of the padding token."""
        digest = hashlib.sha256(np.int64(self.pad).tobytes())
        digest.update(self.starts.tobytes())
        digest.update(self.ids.tobytes())
        return digest.digest()

    @property
    def tokens(self) -> np.ndarray:
        """The ids that occur, padding included, in ascending order."""
        return np.unique(np.append(self.ids, self.pad))

    def take(self, rows: np.ndarray) -> TokenStore:
        """A store of some rows."""
        parts = [self.ids[self.starts[row] : self.starts[row + 1]] for row in rows]
        starts = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        ids = np.concatenate(parts) if parts else self.ids[:0]
        return TokenStore(ids, starts, self.pad, self.max_length, 0, 0)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, rows x width, padded on the right to the next multiple of 8."""
        lengths = self.lengths[rows]
        places = np.arange(width_of(int(lengths.max())))
        real = places[None, :] < lengths[:, None]
        ids = np.full(real.shape, self.pad, dtype=np.int64)
        ids[real] = self.ids[(self.starts[rows][:, None] + places[None, :])[real]]
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}


def width_of(length: int) -> int:
    """The padded width of a row: its length rounded up to a multiple of 8. A function of the row alone."""
    return -(-length // STEP) * STEP


def tokenize(
    rows: Rows, tokenizer: Any, max_length: int, told: Callable[[int, int], None] = lambda done, of: None
) -> TokenStore:
    """Tokenise all rows once. Those longer than `max_length` tokens are cut by the tokenizer's rule, and counted.

    Texts go to the tokenizer 10,000 at a time; fast tokenizers spread them over all processors. After each lot `told`
    hears how many rows are done, and of how many.
    """
    lots, truncated, lost = [], 0, 0
    for start in range(0, len(rows), LOT):
        lot, cut, gone = _encoded(rows.texts[start : start + LOT], tokenizer, max_length)
        truncated, lost = truncated + cut, lost + gone
        lots.append((np.fromiter((t for ids in lot for t in ids), np.int32), np.array([len(ids) for ids in lot])))
        told(start + len(lot), len(rows))
    ids = np.concatenate([np.zeros(0, np.int32), *(flat for flat, _ in lots)])
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(lengths for _, lengths in lots)]))
    pad = tokenizer.pad_token_id if len(rows) else 0
    return TokenStore(ids, starts, pad, max_length, truncated, lost)


def _encoded(texts: Sequence[str], tokenizer: Any, max_length: int) -> tuple[list[list[int]], int, int]:
    """The ids of each text, how many texts were cut, and the tokens lost by that."""
    quiet = {
        "add_special_tokens": True,
        "return_attention_mask": False,
        "return_token_type_ids": False,
        "verbose": False,
    }
    encoded = tokenizer(list(texts), truncation=False, **quiet)["input_ids"]
    long = [number for number, ids in enumerate(encoded) if len(ids) > max_length]
    lost = 0
    if long:
        cut = tokenizer([texts[n] for n in long], truncation=True, max_length=max_length, **quiet)["input_ids"]
        for number, ids in zip(long, cut, strict=True):
            lost += len(encoded[number]) - len(ids)
            encoded[number] = ids
    # A text of nothing but characters that the tokenizer drops still needs one place to attend to.
    empty = [tokenizer.unk_token_id or tokenizer.pad_token_id]
    return [ids or empty for ids in encoded], len(long), lost
