"""What is found by timing steps on this machine: how long one takes, and in parts of how many tokens one is fastest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import nn

from whet.config import TOKENS_AT_ONCE
from whet.data.store import width_of
from whet.engine.forward import Forward
from whet.engine.gradient import Gradient, forget

CALIBRATION_STEPS = 20
TRIED = (1024, 2048, 4096)
"""On a processor more was never faster (docs/decisions/0015-tokens-at-once.md), and it costs memory."""
TRIED_ON_GPU = (4096, 16384, 65536)
GRADIENTS = 3
"""Timed with each budget."""
CLEARLY = 0.97
"""A larger budget is taken where a step takes less than this share of the time."""


def seconds_per_step(
    step: Callable[[int], None], validation: Callable[[], Any], share: float, place: PartialState
) -> float:
    """The median of 20 steps, with `share` of a validation; the mean over processes. `step` takes its number and
    leaves the weights as they are."""
    times = []
    for number in range(CALIBRATION_STEPS):
        begun = time.monotonic()
        step(number)
        times.append(time.monotonic() - begun)
    begun = time.monotonic()
    validation()
    own = torch.tensor(sorted(times)[len(times) // 2] + (time.monotonic() - begun) * share, device=place.device)
    return float(reduce(own, "mean")) if place.num_processes > 1 else float(own)


def timed_budget(
    gradient: Gradient, moving: Mapping[str, nn.Parameter], batch_size: int, folder: Path | None, identity: str
) -> int:
    """The budget for which a batch of middling length takes least time, or the one kept in `folder` for this machine,
    model and length of batch. Leaves no gradient behind."""
    rows, tokens = middling(gradient.own.part.store.lengths, batch_size)
    kept = Remembered(folder, f"{identity} {gradient.own.forward.precision} {tokens}")
    tried = TRIED if gradient.own.forward.device.type == "cpu" else TRIED_ON_GPU
    if tokens <= tried[0]:
        return TOKENS_AT_ONCE
    found = kept.read()
    if found is None:
        found = fastest(tried, tokens, lambda budget: seconds_of(gradient, moving, rows, budget))
        kept.write(found)
    return found


def expected_budget(
    forward: Forward, lengths: np.ndarray, batch_size: int, folder: Path | None, identity: str
) -> tuple[int, tuple[int, ...]]:
    """The budget that `timed_budget` will give as far as is known before, and those that it will time for that."""
    tokens = middling(lengths, batch_size)[1]
    tried = TRIED if forward.device.type == "cpu" else TRIED_ON_GPU
    if folder is None or tokens <= tried[0] or forward.place.num_processes > 1:
        return TOKENS_AT_ONCE, ()
    found = Remembered(folder, f"{identity} {forward.precision} {tokens}").read()
    if found is not None:
        return found, ()
    return TOKENS_AT_ONCE, (tried[0], *(budget for before, budget in pairwise(tried) if tokens > before))


def middling(lengths: np.ndarray, batch_size: int) -> tuple[np.ndarray, int]:
    """The rows of a batch of middling length, and its padded tokens."""
    rows = np.argsort(lengths, kind="stable")[len(lengths) // 2 :][:batch_size]
    return rows, len(rows) * width_of(int(lengths[rows].max()))


def seconds_of(gradient: Gradient, moving: Mapping[str, nn.Parameter], rows: np.ndarray, token_budget: int) -> float:
    """Seconds that a gradient on `rows` takes; the quickest of three, of which the first finds its kernels."""
    gradient.own.forward.token_budget, times = token_budget, []
    for _ in range(GRADIENTS):
        begun = time.monotonic()
        float(gradient(rows, 0, moving))
        times.append(time.monotonic() - begun)
        forget(moving)
    return min(times)


def fastest(tried: Sequence[int], tokens: int, seconds: Callable[[int], float]) -> int:
    """The budget with the quickest step: one goes up for as long as that is clearly quicker. `tokens` are those of the
    step that `seconds` times; budgets that divide it no further are one and the same."""
    best, quickest = tried[0], seconds(tried[0])
    for budget in tried[1:]:
        if tokens <= best:
            break
        own = seconds(budget)
        if own > CLEARLY * quickest:
            break
        best, quickest = budget, own
    return best


class Remembered:
    """Budgets found on this machine, by what they depend on; `folder` None remembers nothing."""

    def __init__(self, folder: Path | None, identity: str) -> None:
        digest = hashlib.sha256(identity.encode()).hexdigest()
        self.path = None if folder is None else folder / f"{digest}.tokens.json"

    def read(self) -> int | None:
        try:
            return None if self.path is None else int(json.loads(self.path.read_text(encoding="utf-8"))["tokens"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # there is none, or it is torn: it is found again

    def write(self, tokens: int) -> None:
        if self.path is None:
            return
        temporary = self.path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps({"tokens": tokens}), encoding="utf-8")
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)  # timed again next time
