"""The states that arrive at a cut, computed once per row and kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whet.data.store import TokenStore, width_of
from whet.engine.batches import by_width
from whet.engine.precision import products
from whet.models.cut import Cut


@dataclass(frozen=True)
class States:
    """One state per row. Sequences are stored flat, without padding; row r is `flat[starts[r]:starts[r + 1]]`."""

    flat: Tensor
    starts: np.ndarray
    sequence: bool

    @property
    def megabytes(self) -> float:
        return self.flat.numel() * self.flat.element_size() / 2**20

    def batch(self, rows: np.ndarray, device: torch.device) -> Tensor:
        """The states of some rows: rows x width x hidden with zeros as padding, or rows x hidden."""
        if not self.sequence:
            return self.flat[torch.from_numpy(rows)].to(device)
        lengths = np.diff(self.starts)[rows]
        places = np.arange(width_of(int(lengths.max())))
        real = places[None, :] < lengths[:, None]
        made = torch.zeros(*real.shape, *self.flat.shape[1:], dtype=self.flat.dtype)
        made[torch.from_numpy(real)] = self.flat[torch.from_numpy((self.starts[rows][:, None] + places[None, :])[real])]
        return made.to(device)


def capture(cut: Cut, store: TokenStore, token_budget: int, precision: str, device: torch.device) -> States:
    """One pass of what lies below the cut, in eval mode, over all rows of a store.

    Each batch holds rows of one padded width only, the row's own: a row's state is a function of the row
    alone, so it has the same bits whoever its neighbours are and whichever run makes it.
    """
    lengths = store.lengths
    flat, starts, sequence = None, np.concatenate([[0], np.cumsum(lengths)]), False
    with torch.inference_mode(), products(precision, device):
        for rows in by_width(lengths, token_budget):
            inputs = {name: value.to(device) for name, value in store.batch(rows).items()}
            state = cut.capture(inputs).cpu()
            if flat is None:
                sequence = state.dim() > 2
                shape = (int(starts[-1]), *state.shape[2:]) if sequence else (len(store), *state.shape[1:])
                flat = torch.empty(shape, dtype=state.dtype)
            if sequence:
                for at, row in enumerate(rows):
                    flat[starts[row] : starts[row + 1]] = state[at, : lengths[row]]
            else:
                flat[torch.from_numpy(rows)] = state
    assert flat is not None, "a store without rows has no states"
    return States(flat.clone(), starts, sequence)
