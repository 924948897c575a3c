"""Keyed dropout: a mask that depends on what is dropped, not on how the batch was put together.

The mask of an element is a hash of (seed, step, row, module, position, channel). However a batch is split
into micro-batches or over processes, and however wide it is padded, the same elements are dropped; and a
resumed run needs no generator state.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

_M1, _M2, _M3 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A 64-bit hash of whole numbers (the finaliser of SplitMix64, Steele et al. 2014, chained)."""
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK)) * _M1 & _MASK
        state = ((state ^ (state >> 30)) * _M2) & _MASK
        state = ((state ^ (state >> 27)) * _M3) & _MASK
        state ^= state >> 31
    return state


class Key:
    """What the masks of one micro-batch hang on; shared by all keyed modules of a model."""

    def __init__(self) -> None:
        self.rows = torch.zeros(0, dtype=torch.int64)
        self._turn = (0, 0)
        self._places = torch.zeros(0, dtype=torch.int64)

    def turn(self, seed: int, step: int, rows: np.ndarray, device: torch.device) -> None:
        """Set the key for a micro-batch: run seed, global step, and the index of each row in the training rows."""
        self._turn = seed, step
        self.rows = _keys(mix(seed, step), rows, device)

    def table(self, count: int, device: torch.device) -> Tensor:
        """Keys for the rows of a table that all rows of the batch share: the same for every micro-batch of a step."""
        return _keys(mix(*self._turn, -1), np.arange(count), device)

    def places(self, count: int, device: torch.device) -> Tensor:
        """A hash of each of the first `count` places in a row; kept, and made longer when a longer row comes."""
        if len(self._places) < count or self._places.device != device:
            with np.errstate(over="ignore"):
                state = np.arange(1, 2 * count + 1, dtype=np.uint64) * np.uint64(_M1)
                for factor, shift in ((_M2, 30), (_M3, 27)):
                    state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
            self._places = torch.from_numpy((state ^ (state >> np.uint64(31))).view(np.int64)).to(device)
        return self._places[:count]


class KeyedDropout(nn.Module):
    """Stands in for `nn.Dropout`: the same share, the mask from the key. Rows are the first dimension: those of the
    batch, or of a table that all of them share (DeBERTa's relative positions). `tables` are the lengths of such tables
    that the module meets; `mixed` says whether it meets rows of the batch too.

    Eight masks come from one 64-bit hash, so the share is that multiple of 1/256 which is nearest to `p`, none and all
    excepted; what stays is scaled up by the share that is really dropped.
    """

    def __init__(self, p: float, name: str, key: Key) -> None:
        super().__init__()
        self.p = p
        self.key = key
        self.tables: frozenset[int] = frozenset()
        self.mixed = False
        self.salt = _signed(mix(zlib.crc32(name.encode())))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        rows = self.key.rows
        if len(x) in self.tables and not (self.mixed and len(x) == len(rows)):
            rows = self.key.table(len(x), x.device)
        if len(x) != len(rows):
            raise RuntimeError(f"keyed dropout met {len(x)} rows where the batch has {len(rows)}")
        of_256 = min(max(round(256 * self.p), 1), 255)
        keep = self._bytes(rows, x[0].numel(), x.device)[:, : x[0].numel()] >= of_256 - 128
        return x * torch.where(keep, 256 / (256 - of_256), 0.0).to(x.dtype).view(x.shape)

    def _bytes(self, rows: Tensor, count: int, device: torch.device) -> Tensor:
        """Rows x count (rounded up to 8), whole numbers from -128 to 127, each as likely as the others."""
        rows = rows ^ self.salt
        for factor, shift in ((_M2, 29), (_M3, 32)):
            rows = (rows ^ (rows >> shift)) * _signed(factor)
        bits = rows[:, None] ^ self.key.places((count + 7) // 8, device)[None, :]
        # The shift copies the sign; without the mask the topmost bit would always cancel itself.
        bits.mul_(_signed(_M1)).bitwise_xor_(bits >> 32).mul_(_signed(_M2))
        bits.bitwise_xor_((bits >> 29).bitwise_and_((1 << 35) - 1))
        return bits.view(torch.int8)


def _keys(base: int, rows: np.ndarray, device: torch.device) -> Tensor:
    """A 64-bit hash of `base` and each row."""
    with np.errstate(over="ignore"):
        keys = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(_M1) ^ np.uint64(base)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(_M2)
    return torch.from_numpy(keys.view(np.int64)).to(device)


def _signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 64) if number >> 63 else number


def key_dropouts(model: nn.Module, key: Key | None = None) -> Key:
    """Put a keyed module in place of every `nn.Dropout` that drops anything. Returns the key they share: the one given,
    else a new one."""
    key = key or Key()
    for name, module in list(model.named_modules()):
        if type(module) is nn.Dropout and module.p > 0:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, KeyedDropout(module.p, name, key))
    return key


def find_shared(model: nn.Module, run: Callable[[int], object]) -> None:
    """Tell the keyed modules of a model of the tables that all rows share: they have the same length for a batch of one
    row as for one of two. `run` passes that many rows through the model."""
    met: dict[KeyedDropout, list[set[int]]] = {m: [] for m in model.modules() if isinstance(m, KeyedDropout)}
    handles = [m.register_forward_pre_hook(lambda own, args: met[own][-1].add(len(args[0]))) for m in met]
    try:
        for rows in (1, 2):
            for lengths in met.values():
                lengths.append(set())
            run(rows)
    finally:
        for handle in handles:
            handle.remove()
    for module, (one, two) in met.items():
        module.tables, module.mixed = frozenset(one & two), one != two
