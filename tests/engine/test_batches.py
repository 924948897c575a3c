"""Which rows make a step, and how a step is divided."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whet.data.store import width_of
from whet.engine.batches import WINDOW, batch_rows, by_width, split_batch

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=400).map(np.array)
BATCHING = st.sampled_from(["random", "grouped"])


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(0, 50), BATCHING)
def test_an_epoch_is_a_permutation_of_the_rows(
    lengths: np.ndarray, size: int, seed: int, epoch: int, batching: str
) -> None:
    batches = batch_rows(seed, epoch, lengths, size, batching)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    # Windows are whole numbers of batches, so at most one batch of the epoch is short.
    assert sorted(len(batch) for batch in batches)[1:] == [size] * (len(batches) - 1)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(0, 50), BATCHING)
def test_batches_are_a_pure_function(lengths: np.ndarray, size: int, seed: int, epoch: int, batching: str) -> None:
    first = batch_rows(seed, epoch, lengths.copy(), size, batching)
    np.random.default_rng(seed)
    np.random.seed(seed % 2**32)
    again = batch_rows(seed, epoch, lengths, size, batching)
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))


@pytest.mark.parametrize("batching", ["random", "grouped"])
def test_epochs_and_seeds_give_other_orders(batching: str) -> None:
    lengths = np.arange(300) % 37 + 1
    orders = {
        tuple(np.concatenate(batch_rows(seed, epoch, lengths, 16, batching))) for seed in range(8) for epoch in range(8)
    }
    assert len(orders) == 64


def test_random_batches_are_numpys_permutation_cut_in_order() -> None:
    lengths = np.arange(50) % 7 + 1
    order = np.random.Generator(np.random.PCG64([5, 2])).permutation(50)
    for number, batch in enumerate(batch_rows(5, 2, lengths, 8, "random")):
        assert np.array_equal(batch, order[8 * number : 8 * number + 8])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=900).map(np.array), st.integers(1, 9), st.integers(0, 99))
def test_grouped_batches_hold_rows_of_like_length(lengths: np.ndarray, size: int, epoch: int) -> None:
    """Within a window of 50 batches no row of a batch is longer than one of a batch that stands above it."""
    order = np.random.Generator(np.random.PCG64([3, epoch])).permutation(len(lengths))
    window_of = {int(row): place // (WINDOW * size) for place, row in enumerate(order)}
    windows: dict[int, list[tuple[int, int]]] = {}
    for batch in batch_rows(3, epoch, lengths, size, "grouped"):
        assert len({window_of[int(row)] for row in batch}) == 1
        ends = int(lengths[batch].min()), int(lengths[batch].max())
        windows.setdefault(window_of[int(batch[0])], []).append(ends)
    for ends in windows.values():
        ordered = sorted(ends)
        assert all(low[1] <= high[0] for low, high in pairwise(ordered))


@given(LENGTHS, st.integers(1, 2000), st.data())
def test_a_split_keeps_all_rows_and_the_budget(lengths: np.ndarray, budget: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(lengths)))
    rows = np.array(data.draw(st.permutations(range(len(lengths)))))[:count]
    parts = split_batch(rows, lengths, budget)
    assert sorted(np.concatenate(parts)) == sorted(rows)
    for part in parts:
        tokens = len(part) * width_of(int(lengths[part].max()))
        assert tokens <= budget or len(part) == 1
    along = lengths[np.concatenate(parts)]
    assert list(along) == sorted(along)
    for left, right in pairwise(parts):
        # No part could have taken the next row as well.
        assert (len(left) + 1) * width_of(int(lengths[right[0]])) > budget


@given(LENGTHS, st.integers(1, 2000))
def test_by_width_puts_rows_of_one_width_together(lengths: np.ndarray, budget: int) -> None:
    parts = by_width(lengths, budget)
    assert sorted(np.concatenate(parts)) == list(range(len(lengths)))
    for part in parts:
        (width,) = {width_of(int(length)) for length in lengths[part]}
        assert len(part) * width <= budget or len(part) == 1


@given(st.integers(1, 10_000))
def test_a_width_is_the_next_multiple_of_eight(length: int) -> None:
    assert width_of(length) % 8 == 0
    assert length <= width_of(length) < length + 8
