"""The states that arrive at cuts, computed once per row: in memory up to a budget, else in mapped files; kept for
other runs in a cache folder.

A cached file is keyed by everything that its bits depend on, written under a temporary name and renamed, and
checked against its SHA-256 before it is used: a torn one is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whet.data.store import TokenStore, width_of
from whet.engine.batches import by_width
from whet.engine.precision import HALF, free_device_memory, products
from whet.models.cut import Cut, in_eval_mode, states_at

FORMAT = 1
CACHE_SHARE = 0.1
"""Of the free disk, at most so much is used by the cache; the files that were used longest ago go first."""


@dataclass(frozen=True)
class States:
    """One state per row. Sequences are stored flat, without padding; row r is `flat[starts[r]:starts[r + 1]]`.

    `seconds` is what computing them took, by whoever did.
    """

    flat: Tensor
    starts: np.ndarray
    sequence: bool
    seconds: float

    @property
    def bytes(self) -> int:
        return self.flat.numel() * self.flat.element_size()

    def batch(self, rows: np.ndarray, device: torch.device) -> Tensor:
        """The states of some rows: rows x width x hidden with zeros as padding, or rows x hidden."""
        here = self.flat.device
        if not self.sequence:
            return self.flat[torch.from_numpy(rows).to(here)].to(device)
        lengths = np.diff(self.starts)[rows]
        places = np.arange(width_of(int(lengths.max())))
        real = places[None, :] < lengths[:, None]
        taken = torch.from_numpy((self.starts[rows][:, None] + places[None, :])[real]).to(here)
        made = self.flat.new_zeros(real.size, *self.flat.shape[1:])
        made[torch.from_numpy(np.flatnonzero(real)).to(here)] = self.flat[taken]
        return made.view(*real.shape, *self.flat.shape[1:]).to(device)

    def near(self, device: torch.device) -> States:
        """The same states in the memory of an accelerator, where half of what is free there holds them."""
        return replace(self, flat=self.flat.to(device)) if 2 * self.bytes <= free_device_memory(device) else self

    def vectors(self) -> np.ndarray:
        """One vector per row, fp32, rows x hidden: the state itself, or the mean of a row's states."""
        rows = len(self.starts) - 1
        if not self.sequence:
            flat = self.flat.float()
            return (flat if flat.dim() == 2 else flat.flatten(2).mean(2)).numpy()
        made = torch.empty(rows, self.flat.shape[-1])
        for row in range(rows):
            made[row] = self.flat[self.starts[row] : self.starts[row + 1]].float().mean(0)
        return made.numpy()


@dataclass(frozen=True)
class Wanted:
    """A cut whose states are wanted. `identity` names all that they depend on but the rows; None where weights below
    have moved in this run, so that nobody else could use them."""

    cut: Cut
    identity: str | None


class Captures:
    """Computes, keeps and finds states. `cache` is the folder for other runs (None: off), `spill` the run's own for
    what exceeds `budget` bytes of memory."""

    def __init__(self, cache: Path | None, spill: Path, budget: int) -> None:
        self.cache, self.spill, self.budget = cache, spill, budget
        self.kept: dict[tuple[str, int], States] = {}

    def release(self, needed: Sequence[str]) -> None:
        """Forget the states of groups that no later phase needs."""
        self.kept = {key: states for key, states in self.kept.items() if key[0] in needed}

    def provide(
        self, wanted: Sequence[Wanted], stores: Sequence[TokenStore], run: Pass
    ) -> tuple[dict[int, States], dict[str, Any]]:
        """The states of the first wanted cut for each store (by identity), and what it took to have them.

        All wanted cuts that are neither kept nor cached come from one pass over the rows.
        """
        first, begun = wanted[0], time.monotonic()
        group, origin = first.cut.group, "an earlier pass"
        if any((group, id(store)) not in self.kept for store in stores):
            origin = "the cache"
            missing = [w for w in wanted if not self._all_cached(w, stores, run)]
            if first in missing:
                origin = "this pass"
                self._compute(missing, stores, run)
        found = {id(store): self.kept[group, id(store)] for store in stores}
        size = sum(states.bytes for states in found.values())
        facts = {"before": group, "rows": sum(len(s) for s in stores), "megabytes": round(size / 2**20, 1)}
        facts |= {"from": origin, "seconds": round(time.monotonic() - begun, 2)}
        return found, {**facts, "below_seconds": round(sum(states.seconds for states in found.values()), 2)}

    def cached(self, wanted: Wanted, stores: Sequence[TokenStore], run: Pass) -> bool:
        """Are there files with these states from another run? Whether they are whole shows when they are read."""
        paths = [self._path(wanted, store, run) for store in stores]
        return all(path is not None and path.exists() for path in paths)

    def _compute(self, wanted: Sequence[Wanted], stores: Sequence[TokenStore], run: Pass) -> None:
        for store in stores:
            made = run.states([w.cut for w in wanted], store, self._allocate)
            for w, states in zip(wanted, made, strict=True):
                self.kept[w.cut.group, id(store)] = states
                self._keep_for_others(w, store, run)

    def _allocate(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Room for states: memory while the budget lasts, then a mapped file in the run folder."""
        size = int(np.prod(shape)) * dtype.itemsize
        if self._fits(size):
            return torch.empty(shape, dtype=dtype)
        self.spill.mkdir(exist_ok=True)
        path = self.spill / f"{name.replace(' ', '-')}-{os.getpid()}-{len(list(self.spill.iterdir()))}.states"
        return torch.from_file(str(path), shared=True, size=int(np.prod(shape)), dtype=dtype).view(shape)

    def _path(self, w: Wanted, store: TokenStore, run: Pass) -> Path | None:
        if self.cache is None or w.identity is None:
            return None
        digest = hashlib.sha256(json.dumps([FORMAT, w.identity, w.cut.entry, w.cut.direct, run.precision]).encode())
        digest.update(store.fingerprint)
        return self.cache / f"{digest.hexdigest()}.states"

    def _all_cached(self, w: Wanted, stores: Sequence[TokenStore], run: Pass) -> bool:
        found = [self._cached(w, store, run) for store in stores]  # each is looked up, whatever the others say
        return all(found)

    def _cached(self, w: Wanted, store: TokenStore, run: Pass) -> bool:
        """Take the states from memory or from the cache, if a whole file of them is there."""
        if (w.cut.group, id(store)) in self.kept:
            return True
        path = self._path(w, store, run)
        if path is None or not path.exists():
            return False
        try:
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            flat = self._read(path, tuple(facts["shape"]), getattr(torch, facts["dtype"]))
            raw = memoryview(bytes_of(flat))
            whole = path.stat().st_size == raw.nbytes and hashlib.sha256(raw).hexdigest() == facts["sha256"]
        except (OSError, ValueError, KeyError, RuntimeError):
            return False
        if not whole:
            return False
        self.kept[w.cut.group, id(store)] = States(flat, store.starts, facts["sequence"], facts["seconds"])
        os.utime(path)
        return True

    def _read(self, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """What a file holds: in memory while the budget lasts, else mapped. Read into memory it is faster to draw
        rows from, where the system takes mapped pages back."""
        size = int(np.prod(shape))
        if not self._fits(size * dtype.itemsize):
            return torch.from_file(str(path), shared=False, size=size, dtype=dtype).view(shape)
        flat = torch.empty(shape, dtype=dtype)
        with path.open("rb") as handle:
            handle.readinto(memoryview(bytes_of(flat)))
        return flat

    def _fits(self, size: int) -> bool:
        return sum(states.bytes for states in self.kept.values()) + size <= self.budget

    def _keep_for_others(self, w: Wanted, store: TokenStore, run: Pass) -> None:
        path, states = self._path(w, store, run), self.kept[w.cut.group, id(store)]
        if path is None or not _make_room(path.parent, states.bytes):
            return
        facts: dict[str, Any] = {
            "shape": list(states.flat.shape),
            "dtype": str(states.flat.dtype).removeprefix("torch."),
        }
        temporary = path.with_suffix(f".{os.getpid()}")
        raw = bytes_of(states.flat)
        try:
            raw.tofile(temporary)  # not flushed to the disk: what a crash leaves torn is seen when it is read
            facts |= {"sequence": states.sequence, "sha256": hashlib.sha256(memoryview(raw)).hexdigest()}
            facts |= {"seconds": states.seconds}
            path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # a cache that cannot be written changes no result


@dataclass(frozen=True)
class Pass:
    """How a pass over rows is computed."""

    model: nn.Module
    token_budget: int
    precision: str
    device: torch.device

    def states(self, cuts: Sequence[Cut], store: TokenStore, allocate: Any) -> list[States]:
        """One pass of what lies below the highest of the cuts, in eval mode; returns the states of each cut.

        Each batch holds rows of one padded width only, the row's own: a row's state is a function of the row
        alone, so it has the same bits whoever its neighbours are and whichever run makes it. Sequences are
        stored in the precision of the products, vectors in fp32.
        """
        flats: list[Tensor] = []
        seconds = [0.0] * len(cuts)
        for rows in by_width(store.lengths, self.token_budget):
            with torch.inference_mode(), products(self.precision, self.device), in_eval_mode(self.model):
                inputs = {name: value.to(self.device) for name, value in store.batch(rows).items()}
                found = states_at(self.model, [cut.entry for cut in cuts], inputs)
            if not flats:
                flats = [self._room(cut, one.state, store, allocate) for cut, one in zip(cuts, found, strict=True)]
            for number, one in enumerate(found):
                put(flats[number], one.state.cpu(), rows, store)
                seconds[number] += one.seconds
        sequences = [of_tokens(one.state, store) for one in found]
        return [States(f, store.starts, s, t) for f, s, t in zip(flats, sequences, seconds, strict=True)]

    def _room(self, cut: Cut, state: Tensor, store: TokenStore, allocate: Any) -> Tensor:
        if not of_tokens(state, store):
            return allocate(cut.group, (len(store), *state.shape[1:]), torch.float32)
        dtype = HALF.get(self.precision, torch.float32)
        return allocate(cut.group, (int(store.starts[-1]), *state.shape[2:]), dtype)


def bytes_of(flat: Tensor) -> Any:
    """The memory of a tensor as an array of bytes."""
    return flat.contiguous().view(-1).view(torch.uint8).numpy()


def of_tokens(state: Tensor, store: TokenStore) -> bool:
    """Does a state hold one vector per token of its row, and so padding, or is it of one size for all rows?"""
    return store.ragged and state.dim() > 2


def put(flat: Tensor, state: Tensor, rows: np.ndarray, store: TokenStore) -> None:
    """Store the states of some rows: those per token without their padding, others as they are."""
    if not of_tokens(state, store):
        flat[torch.from_numpy(rows)] = state.to(flat.dtype)
        return
    places = np.arange(state.shape[1])
    real = torch.from_numpy(places[None, :] < store.lengths[rows][:, None])
    flat[torch.from_numpy(store.starts[rows][:, None] + places[None, :])[real]] = state[real].to(flat.dtype)


def identity(weights: str, facts: Mapping[str, Any]) -> str:
    """What pristine states depend on beside the rows: the pretrained weights and the kind of machine."""
    return json.dumps([weights, dict(sorted(facts.items()))])


def cache_folder(asked: str | None) -> Path | None:
    """The folder of the cache: the one asked for, else WHET_CACHE, else the user's cache folder; None for `off`."""
    if asked == "off":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(asked or os.environ.get("WHET_CACHE") or Path(home) / "whet") / "states"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder


def _make_room(folder: Path, size: int) -> bool:
    """Remove what was used longest ago until `size` more bytes fit the cache's share of the disk."""
    files = sorted(folder.glob("*.states"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    limit = CACHE_SHARE * (shutil.disk_usage(folder).free + total)
    while files and total + size > limit:
        oldest = files.pop(0)
        total -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)
        oldest.with_suffix(".json").unlink(missing_ok=True)
    return total + size <= limit
