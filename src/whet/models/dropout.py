"""Keyed dropout: a mask that depends on what is dropped, not on how the batch was put together.

The mask of an element is a hash of (seed, step, row, module, position, channel). However a batch is split
into micro-batches or over processes, and however wide it is padded, the same elements are dropped; and a
resumed run needs no generator state.
"""

from __future__ import annotations

import zlib

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
        self._places = torch.zeros(0, dtype=torch.int64)

    def turn(self, seed: int, step: int, rows: np.ndarray, device: torch.device) -> None:
        """Set the key for a micro-batch: run seed, global step, and the index of each row in the training rows."""
        base = np.uint64(mix(seed, step))
        with np.errstate(over="ignore"):
            keys = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(_M1) ^ base
            keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(_M2)
        self.rows = torch.from_numpy(keys.view(np.int64)).to(device)

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
    """Stands in for `nn.Dropout`: the same share, the mask from the key. Rows are the first dimension.

    Eight masks come from one 64-bit hash, so the share is that multiple of 1/256 which is nearest to `p`, none and all
    excepted; what stays is scaled up by the share that is really dropped.
    """

    def __init__(self, p: float, name: str, key: Key) -> None:
        super().__init__()
        self.p = p
        self.key = key
        self.salt = _signed(mix(zlib.crc32(name.encode())))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if len(x) != len(self.key.rows):
            raise RuntimeError(f"keyed dropout met {len(x)} rows where the batch has {len(self.key.rows)}")
        of_256 = min(max(round(256 * self.p), 1), 255)
        keep = self._bytes(x[0].numel(), x.device)[:, : x[0].numel()] >= of_256 - 128
        return x * torch.where(keep, 256 / (256 - of_256), 0.0).to(x.dtype).view(x.shape)

    def _bytes(self, count: int, device: torch.device) -> Tensor:
        """Rows x count (rounded up to 8), whole numbers from -128 to 127, each as likely as the others."""
        rows = self.key.rows ^ self.salt
        for factor, shift in ((_M2, 29), (_M3, 32)):
            rows = (rows ^ (rows >> shift)) * _signed(factor)
        bits = rows[:, None] ^ self.key.places((count + 7) // 8, device)[None, :]
        # The shift copies the sign; without the mask the topmost bit would always cancel itself.
        bits.mul_(_signed(_M1)).bitwise_xor_(bits >> 32).mul_(_signed(_M2))
        bits.bitwise_xor_((bits >> 29).bitwise_and_((1 << 35) - 1))
        return bits.view(torch.int8)


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
