"""Keyed dropout: the mask hangs on what is dropped, not on how the batch was put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from whet.models.dropout import Key, KeyedDropout, find_shared, key_dropouts, mix

CPU = torch.device("cpu")


def kept(
    rows: list[int], shape: tuple[int, ...], p: float = 0.1, *, seed: int = 0, step: int = 0, name: str = "a.dropout"
) -> Tensor:
    """Which elements stay, for a batch of these rows: rows x shape, 1.0 or 0.0."""
    key = Key()
    key.turn(seed, step, np.array(rows), CPU)
    module = KeyedDropout(p, name, key).train()
    return (module(torch.ones(len(rows), *shape)) != 0).double()


@pytest.mark.parametrize("p", [0.02, 0.1, 0.25, 0.5, 0.9])
def test_the_share_is_met_and_what_stays_is_scaled(p: float) -> None:
    key = Key()
    key.turn(3, 7, np.arange(64), CPU)
    inputs = torch.randn(64, 100, 32) + 3
    made = KeyedDropout(p, "m", key).train()(inputs)
    stays = made != 0
    wanted = round(256 * p) / 256
    share, noise = float(1 - stays.double().mean()), (p * (1 - p) / inputs.numel()) ** 0.5
    assert abs(share - wanted) < 5 * noise
    torch.testing.assert_close(made[stays], inputs[stays] / (1 - wanted))
    by_row, by_channel = stays.double().mean((1, 2)), stays.double().mean((0, 1))
    for rates, count in ((by_row, 3200), (by_channel, 6400)):
        assert float((rates - (1 - p)).abs().max()) < 6 * (p * (1 - p) / count) ** 0.5 + 1 / 65536


@settings(max_examples=30)
@given(st.data())
def test_the_same_elements_whatever_the_split_the_order_and_the_width(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, 10_000), min_size=2, max_size=12, unique=True))
    width, narrow = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 40))
    channels = data.draw(st.integers(1, 9))
    whole = dict(zip(rows, kept(rows, (width, channels), 0.4), strict=True))
    order = data.draw(st.permutations(rows))
    at = data.draw(st.integers(0, len(rows)))
    for part in (order[:at], order[at:]):
        if part:
            for row, mask in zip(part, kept(part, (narrow, channels), 0.4), strict=True):
                both = min(width, narrow)
                assert torch.equal(mask[:both], whole[row][:both])


def test_one_module_can_serve_growing_and_shrinking_batches() -> None:
    key = Key()
    module = KeyedDropout(0.3, "m", key).train()
    for rows, width in (([5], 3), ([5, 9], 40), ([9, 5, 1], 8), ([5], 3)):
        key.turn(1, 2, np.array(rows), CPU)
        made = module(torch.ones(len(rows), width, 5))
        assert torch.equal((made[rows.index(5)] != 0).double(), kept([5], (width, 5), 0.3, seed=1, step=2, name="m")[0])


def test_masks_differ_by_seed_step_module_and_row() -> None:
    usual = kept([1, 2], (50, 20), 0.5)
    others = {
        "seed": kept([1, 2], (50, 20), 0.5, seed=1),
        "step": kept([1, 2], (50, 20), 0.5, step=1),
        "module": kept([1, 2], (50, 20), 0.5, name="b.dropout"),
        "row": kept([3, 4], (50, 20), 0.5),
        "neighbour": usual.flip(0),
    }
    for name, other in others.items():
        agree = float((usual == other).double().mean())
        assert abs(agree - 0.5) < 5 * (0.25 / usual.numel()) ** 0.5, name


def test_the_same_key_gives_the_same_mask_again() -> None:
    assert torch.equal(kept([1, 2, 3], (9, 7), seed=5, step=6), kept([1, 2, 3], (9, 7), seed=5, step=6))


def pairs(p: float) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Masks that stand beside each other in every direction, as equal-shaped pairs."""
    rows, (width, channels) = list(range(48)), (64, 48)
    mask = kept(rows, (width, channels), p)
    yield "channel", mask[:, :, 1:], mask[:, :, :-1]
    yield "two channels on", mask[:, :, 2:], mask[:, :, :-2]
    yield "four channels on", mask[:, :, 4:], mask[:, :, :-4]
    yield "position", mask[:, 1:], mask[:, :-1]
    yield "row", mask[1:], mask[:-1]
    yield "sixteen rows on", mask[16:], mask[:-16]
    for name, other in (
        ("step", kept(rows, (width, channels), p, step=1)),
        ("two steps on", kept(rows, (width, channels), p, step=2)),
        ("seed", kept(rows, (width, channels), p, seed=1)),
        ("module", kept(rows, (width, channels), p, name="a.dropout2")),
        ("row and step", kept([*rows[1:], 48], (width, channels), p, step=1)),
    ):
        yield name, mask, other


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_are_not_correlated_beyond_noise(p: float) -> None:
    for name, left, right in pairs(p):
        # The correlation of n independent pairs is normal with deviation 1 / sqrt(n); 5 deviations are 6e-7.
        found = float(((left - (1 - p)) * (right - (1 - p))).mean() / (p * (1 - p)))
        assert abs(found) < 5 / left.numel() ** 0.5, name


def test_rows_and_places_do_not_combine_to_patterns() -> None:
    """Any two rows and any two places: the four elements at their crossings are independent too."""
    mask = kept(list(range(64)), (32, 64), 0.5) - 0.5
    flat = mask.reshape(64, -1)
    for shift_row, shift_place in itertools.product((1, 2, 32), (1, 4, 64, 1024)):
        crossed = flat[shift_row:, shift_place:] * flat[shift_row:, :-shift_place]
        crossed = crossed * flat[:-shift_row, shift_place:] * flat[:-shift_row, :-shift_place]
        assert abs(float(crossed.mean()) * 16) < 5 / crossed.numel() ** 0.5, (shift_row, shift_place)


def test_in_eval_mode_and_at_share_zero_it_hands_on_its_input() -> None:
    inputs = torch.randn(3, 4, 5)
    assert KeyedDropout(0.5, "m", Key()).eval()(inputs) is inputs
    assert KeyedDropout(0.0, "m", Key()).train()(inputs) is inputs


def test_the_gradient_is_masked_like_the_output() -> None:
    key = Key()
    key.turn(0, 0, np.arange(4), CPU)
    inputs = torch.randn(4, 6, requires_grad=True)
    made = KeyedDropout(0.5, "m", key).train()(inputs)
    made.sum().backward()
    assert torch.equal(inputs.grad, torch.where(made != 0, 2.0, 0.0))


def test_a_batch_that_the_key_was_not_turned_to_is_an_error() -> None:
    key = Key()
    key.turn(0, 0, np.arange(4), CPU)
    with pytest.raises(RuntimeError, match="met 3 rows where the batch has 4"):
        KeyedDropout(0.5, "m", key).train()(torch.ones(3, 6))


class Relative(nn.Module):
    """Rows of tokens, and beside them a table of 5 positions that all rows share, as in DeBERTa; one dropout meets the
    rows, one the table, and one both."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.table, self.both = nn.Dropout(0.5), nn.Dropout(0.5), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        table = torch.ones(5, 400)
        return self.own(x), self.table(table), self.both(x), self.both(table)


def test_a_table_that_all_rows_share_has_one_mask_for_the_whole_batch() -> None:
    model = Relative()
    key = key_dropouts(model)
    find_shared(model.eval(), lambda rows: model(torch.ones(rows, 400)))
    met = [(set(one.tables), one.mixed) for one in (model.own, model.table, model.both)]
    assert met == [(set(), True), ({5}, False), ({5}, True)]
    made = []
    for step, rows in ((0, [1]), (0, [7, 1]), (0, [1, 2, 3, 4, 5]), (1, [1])):
        key.turn(3, step, np.array(rows), CPU)
        made.append(model.train()(torch.ones(len(rows), 400)))
    for place in (1, 3):
        assert torch.equal(made[0][place], made[1][place])
        assert not torch.equal(made[0][place], made[3][place])
        assert abs(float((made[0][place] == 0).double().mean()) - 0.5) < 5 * (0.25 / 2000) ** 0.5
        assert not torch.equal(made[0][place][0], made[0][place][1])
    assert torch.equal(made[0][1], made[2][1]), "also where the batch has as many rows"
    for place in (0, 2):
        assert torch.equal(made[0][place][0], made[1][place][1])


def test_every_dropout_of_a_model_is_replaced_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.0)))
    key = key_dropouts(model)
    found = {name: module for name, module in model.named_modules() if isinstance(module, KeyedDropout)}
    assert {name: module.p for name, module in found.items()} == {"1": 0.2, "2.0": 0.3}
    assert all(module.key is key for module in found.values())
    assert found["1"].salt != found["2.0"].salt


def test_the_hash_spreads_single_bits() -> None:
    flips = [
        bin(mix(seed, step) ^ mix(seed, step ^ (1 << bit))).count("1")
        for seed in range(8)
        for step in (0, 1, 77)
        for bit in range(20)
    ]
    assert 31 < np.mean(flips) < 33
    assert min(flips) > 12
    assert len({mix(seed, step) for seed in range(50) for step in range(200)}) == 10_000
    assert mix(1, 2) != mix(2, 1)
