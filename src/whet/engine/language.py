"""Losses of a language model on rows of tokens: of the next token, or of masked ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from whet.data.store import TokenStore
from whet.engine.batches import by_width
from whet.models.cut import in_eval_mode

NOT_ASKED = -100
"""Stands where nothing is to be predicted."""
MASKED, SEED = 0.15, 0
"""The share of a row's tokens that is masked (BERT's own), and where the choice comes from: it is the same for every
run, so that runs compare."""
LOGITS_AT_ONCE = 2**25
"""Numbers in the logits of one batch: 128 MiB in fp32. A large vocabulary makes small batches."""


@dataclass(frozen=True)
class Asked:
    """Rows as the model sees them, and for each place of `store.ids` the token to be predicted there, or NOT_ASKED."""

    store: TokenStore
    targets: np.ndarray


class Losses(NamedTuple):
    """Per row: the sum of the losses in nats, and how many tokens were predicted."""

    sums: np.ndarray
    tokens: np.ndarray


def next_tokens(store: TokenStore) -> Asked:
    """Each token is to be predicted from those before it; a row's first one is not."""
    targets = np.full(len(store.ids), NOT_ASKED, np.int64)
    targets[:-1] = store.ids[1:]
    targets[store.starts[1:] - 1] = NOT_ASKED
    return Asked(store, targets)


def masked_tokens(store: TokenStore, mask: int, special: Collection[int]) -> Asked:
    """15 % of each row's tokens, at least one, are hidden behind the token `mask`, always the same ones; those in
    `special` are never chosen."""
    chance = np.random.default_rng(SEED)
    targets, ids = np.full(len(store.ids), NOT_ASKED, np.int64), store.ids.copy()
    plain = ~np.isin(store.ids, list(special))
    for start, end in zip(store.starts[:-1], store.starts[1:], strict=True):
        places = start + np.flatnonzero(plain[start:end])
        chosen = chance.permutation(places)[: max(1, round(MASKED * len(places)))]
        targets[chosen], ids[chosen] = store.ids[chosen], mask
    return Asked(replace(store, ids=ids), targets)


def losses(model: Any, asked: Asked, token_budget: int, device: torch.device) -> Losses:
    """Cross-entropy in fp32 and eval mode. `model` is called with `input_ids` and `attention_mask`, and gives `logits`
    (B x T x vocabulary)."""
    store, sums = asked.store, np.zeros(len(asked.store))
    model.to(device)
    at_once = min(token_budget, LOGITS_AT_ONCE // int(model.config.vocab_size))
    for rows in by_width(store.lengths, at_once):
        inputs = {name: value.to(device) for name, value in store.batch(rows).items()}
        targets = torch.full(inputs["input_ids"].shape, NOT_ASKED)
        targets[inputs["attention_mask"].cpu().bool()] = torch.from_numpy(
            np.concatenate([asked.targets[store.starts[row] : store.starts[row + 1]] for row in rows])
        )
        with torch.inference_mode(), in_eval_mode(model):
            logits_BTV = model(**inputs).logits.float()
            found = nn.functional.cross_entropy(
                logits_BTV.flatten(0, 1), targets.flatten().to(device), ignore_index=NOT_ASKED, reduction="none"
            )
        sums[rows] = found.view(targets.shape).sum(1).cpu().numpy()
    asked_for = asked.targets != NOT_ASKED
    counts = [asked_for[start:end].sum() for start, end in zip(store.starts[:-1], store.starts[1:], strict=True)]
    return Losses(sums, np.array(counts))
