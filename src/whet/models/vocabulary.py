"""Only the rows of the token table that the data use: they alone can move, so they alone need a gradient.

Exact: a row that no text uses has a zero gradient in every step. What differs is weight decay, which would shrink
unused rows a little; here they stay as pretrained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WORTH = 0.7
"""Share of the table in use above which nothing is gained."""


class RowsInUse(nn.Module):
    """Stands in for a token embedding while training: the same lookups in a table of the rows in use."""

    def __init__(self, table: nn.Embedding, rows: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[rows].clone())
        place = torch.zeros(table.num_embeddings, dtype=torch.int64, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        self.place = place
        pad = table.padding_idx
        self.padding = int(place[pad]) if pad is not None and bool((rows == pad).any()) else None

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(self.place[ids], self.weight, self.padding)


class InUse:
    """Which rows of which parameter are in use; `name` is None where the whole table stays."""

    def __init__(self, name: str | None = None, rows: Tensor | None = None) -> None:
        self.name, self.rows = name, rows

    def of(self, name: str, value: Tensor) -> Tensor:
        """The part of a whole parameter that trains."""
        if name == self.name and self.rows is not None and len(value) != len(self.rows):
            return value[self.rows.to(value.device)]
        return value


@contextmanager
def rows_in_use(model: nn.Module, moving: frozenset[str], tokens: Callable[[], np.ndarray]) -> Iterator[InUse]:
    """Within, the model's token table holds only the rows of `tokens`; after it, all rows, with what was learnt.

    A table that is not `moving`, that something else shares (tied weights), that is not plain, or that is used nearly
    whole stays.
    """
    found = _table(model)
    if found is None or f"{found[0]}.weight" not in moving:
        yield InUse()
        return
    name, table = found
    used = tokens()
    if len(used) > WORTH * table.num_embeddings:
        yield InUse()
        return
    rows = torch.from_numpy(used.astype(np.int64)).to(table.weight.device)
    owner, _, own = name.rpartition(".")
    part = RowsInUse(table, rows)
    setattr(model.get_submodule(owner), own, part)
    try:
        yield InUse(f"{name}.weight", rows)
    finally:
        with torch.no_grad():
            table.weight[rows] = part.weight
        setattr(model.get_submodule(owner), own, table)


def numbers_in_use(model: nn.Module, tokens: np.ndarray) -> dict[str, int]:
    """The parameter that is the token table, with how many of its numbers train while it moves; empty where the whole
    table does."""
    found = _table(model)
    if found is None or len(tokens) > WORTH * found[1].num_embeddings:
        return {}
    name, table = found
    return {f"{name}.weight": len(tokens) * table.embedding_dim}


def _table(model: nn.Module) -> tuple[str, nn.Embedding] | None:
    body: Any = getattr(model, "body", model)
    try:
        table = body.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    if type(table) is not nn.Embedding or table.max_norm is not None:
        return None
    names = [n for n, parameter in model.named_parameters(remove_duplicate=False) if parameter is table.weight]
    return (names[0].removesuffix(".weight"), table) if len(names) == 1 else None
