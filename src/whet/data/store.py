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


NO_LOSS = -100
"""A target that counts for nothing: cross-entropy leaves it out."""


@dataclass(frozen=True)
class Ragged:
    """Values of rows of unlike lengths, flat; those of row r are `values[starts[r]:starts[r + 1]]`."""

    values: np.ndarray
    starts: np.ndarray

    @staticmethod
    def of(rows: Sequence[np.ndarray]) -> Ragged:
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return Ragged(np.concatenate(rows), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> np.ndarray:
        return self.values[self.starts[number] : self.starts[number + 1]]

    def __getitem__(self, rows: np.ndarray) -> Ragged:
        """Some rows, in the order given."""
        return (
            Ragged.of([self.row(int(row)) for row in rows]) if len(rows) else Ragged(self.values[:0], self.starts[:1])
        )

    def padded(self, fill: float = NO_LOSS) -> np.ndarray:
        """Rows x width (x whatever a value is made of), the width that their tokens are padded to."""
        lengths = np.diff(self.starts)
        real = np.arange(width_of(int(lengths.max())))[None, :] < lengths[:, None]
        made = np.full((*real.shape, *self.values.shape[1:]), fill, dtype=self.values.dtype)
        made[real] = self.values
        return made


Targets = np.ndarray | Ragged
"""What rows are learnt towards: an entry per row (a class number, a number, a vector), or one per token of each row."""


def as_tensor(targets: Targets) -> Tensor:
    """Targets of some rows, rows first; those of tokens padded like the tokens, with `NO_LOSS`."""
    return torch.from_numpy(targets.padded() if isinstance(targets, Ragged) else targets)


@dataclass(frozen=True)
class TokenStore:
    """Token ids of all rows, flat; row r is `ids[starts[r]:starts[r + 1]]`.

    `truncated` rows were longer than `max_length` tokens and lost `tokens_lost` in all. `segments` says of each token
    which of two texts it is of, where the model asks for that.
    """

    ids: np.ndarray
    starts: np.ndarray
    pad: int
    max_length: int
    truncated: int
    tokens_lost: int
    segments: np.ndarray | None = None
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
        if self.segments is not None:
            digest.update(self.segments.tobytes())
        return digest.digest()

    @property
    def tokens(self) -> np.ndarray:
        """The ids that occur, padding included, in ascending order."""
        return np.unique(np.append(self.ids, self.pad))

    def take(self, rows: np.ndarray) -> TokenStore:
        """A store of some rows."""
        ids = Ragged(self.ids, self.starts)[rows]
        segments = None if self.segments is None else Ragged(self.segments, self.starts)[rows].values
        return TokenStore(ids.values, ids.starts, self.pad, self.max_length, 0, 0, segments)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and, where there are segments, `token_type_ids`: rows x width, padded on the
        right to the next multiple of 8."""
        lengths = self.lengths[rows]
        places = np.arange(width_of(int(lengths.max())))
        real = places[None, :] < lengths[:, None]
        taken = (self.starts[rows][:, None] + places[None, :])[real]
        ids = np.full(real.shape, self.pad, dtype=np.int64)
        ids[real] = self.ids[taken]
        made = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}
        if self.segments is not None:
            segments = np.zeros(real.shape, dtype=np.int64)
            segments[real] = self.segments[taken]
            made["token_type_ids"] = torch.from_numpy(segments)
        return made


@dataclass(frozen=True)
class Part:
    """Rows ready for the model: tokens, targets, and the line of each row in its source. `beside` is whatever else the
    task needs to read the outputs of these rows."""

    store: TokenStore
    targets: Targets
    lines: tuple[int, ...]
    beside: Any = None


@dataclass(frozen=True)
class Encoder:
    """How texts become tokens for a model: its tokenizer, the most tokens of a row, and whether the model tells two
    texts apart by segments. `told` hears how many rows are done, and of how many."""

    tokenizer: Any
    max_length: int
    segments: bool = False
    told: Callable[[int, int], None] = lambda done, of: None

    def tokens(self, rows: Rows) -> TokenStore:
        return tokenize(rows, self.tokenizer, self.max_length, self.told, segments=self.segments)


def width_of(length: int) -> int:
    """The padded width of a row: its length rounded up to a multiple of 8. A function of the row alone."""
    return -(-length // STEP) * STEP


def tokenize(
    rows: Rows,
    tokenizer: Any,
    max_length: int,
    told: Callable[[int, int], None] = lambda done, of: None,
    *,
    segments: bool = False,
) -> TokenStore:
    """Tokenise all rows once. Those longer than `max_length` tokens are cut by the tokenizer's rule, and counted; of a
    pair, the longer text loses its last token until both fit.

    Texts go to the tokenizer 10,000 at a time; fast tokenizers spread them over all processors. After each lot `told`
    hears how many rows are done, and of how many. With `segments`, pairs say which text each token is of.
    """
    between = "" if not rows.seconds else separator(tokenizer)
    lots: list[_Lot] = []
    for start in range(0, len(rows), LOT):
        others = [between + text for text in rows.seconds[start : start + LOT]]
        lots.append(_encoded(rows.texts[start : start + LOT], others, tokenizer, max_length))
        told(start + len(lots[-1].ids), len(rows))
    lengths = [np.array([len(ids) for ids in lot.ids]) for lot in lots]
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    sides = _flat([lot.segments for lot in lots], np.int8) if segments and rows.seconds else None
    return TokenStore(
        ids=_flat([lot.ids for lot in lots], np.int32),
        starts=starts,
        pad=tokenizer.pad_token_id if len(rows) else 0,
        max_length=max_length,
        truncated=sum(lot.cut for lot in lots),
        tokens_lost=sum(lot.lost for lot in lots),
        segments=sides,
    )


def separator(tokenizer: Any) -> str:
    """What stands before the second text of a pair: nothing where the tokenizer divides the two by a token of its own,
    else a line break, so that they do not run into one another."""
    ids = tokenizer("a", "a", add_special_tokens=True)["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    inside = [place for place, number in enumerate(ids) if number not in special]
    divided = inside and any(number in special for number in ids[inside[0] : inside[-1]])
    return "" if divided else "\n"


def _flat(lots: list[list[list[int]]], kind: Any) -> np.ndarray:
    each = (np.fromiter((number for row in lot for number in row), kind) for lot in lots)
    return np.concatenate([np.zeros(0, kind), *each])


@dataclass(frozen=True)
class _Lot:
    """The ids of each text (and of which text of a pair each token is), how many were cut, the tokens lost by that."""

    ids: list[list[int]]
    segments: list[list[int]]
    cut: int
    lost: int


def _encoded(texts: Sequence[str], others: Sequence[str], tokenizer: Any, max_length: int) -> _Lot:
    quiet = {
        "add_special_tokens": True,
        "return_attention_mask": False,
        "return_token_type_ids": bool(others),
        "verbose": False,
    }

    def both(rows: Sequence[int]) -> tuple[list[str], ...]:
        return tuple([side[n] for n in rows] for side in ((texts, others) if others else (texts,)))

    made = tokenizer(*both(range(len(texts))), truncation=False, **quiet)
    encoded, sides = made["input_ids"], made["token_type_ids"] if others else []
    long = [number for number, ids in enumerate(encoded) if len(ids) > max_length]
    lost = 0
    if long:
        cut = tokenizer(*both(long), truncation=True, max_length=max_length, **quiet)
        for place, number in enumerate(long):
            lost += len(encoded[number]) - len(cut["input_ids"][place])
            encoded[number] = cut["input_ids"][place]
            if others:
                sides[number] = cut["token_type_ids"][place]
    # A text of nothing but characters that the tokenizer drops still needs one place to attend to.
    empty = [tokenizer.unk_token_id or tokenizer.pad_token_id]
    return _Lot([ids or empty for ids in encoded], [side or [0] for side in sides], len(long), lost)
