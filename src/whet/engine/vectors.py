"""One vector per row for each of several depths and poolings, from one pass over the rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from whet.data.store import TokenStore
from whet.engine.batches import by_width
from whet.engine.precision import products
from whet.models.cut import in_eval_mode
from whet.models.depths import Depths
from whet.models.heads import pool

Place = tuple[int, str]
"""Where vectors come from: blocks from the input, and the pooling."""


def pooled_vectors(
    depths: Depths, poolings: Sequence[str], store: TokenStore, token_budget: int, precision: str, device: torch.device
) -> dict[Place, Tensor]:
    """Rows x hidden in fp32, in ordinary memory, for each depth and pooling.

    In eval mode, in batches of one padded width, so that a row's vectors are a function of the row alone. States are
    pooled batch by batch: what is kept is rows x hidden for each place, never the states of tokens.
    """
    size = depths.model.body.config.hidden_size
    made = {(depth, how): torch.empty(len(store), size) for depth in depths.depths for how in poolings}
    for rows in by_width(store.lengths, token_budget):
        inputs = {name: value.to(device) for name, value in store.batch(rows).items()}
        with torch.inference_mode(), products(precision, device), in_eval_mode(depths.model):
            found = depths.states(inputs)
            for depth, states in zip(depths.depths, found, strict=True):
                for how in poolings:
                    made[depth, how][torch.from_numpy(rows)] = pool(states, inputs["attention_mask"], how).cpu()
    return made
