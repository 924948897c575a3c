"""Poolings against plain loops, and the layers of a head."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from whet.models.heads import Head, pool, start
from whet.plan.edits import NewHead


def plain(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """One row and one real token after the other."""
    made = []
    for row, real in zip(states, mask, strict=True):
        tokens = [token for token, keep in zip(row, real, strict=True) if keep]
        if how == "cls":
            made.append(row[0])
        elif how == "last":
            made.append(tokens[-1])
        elif how == "max":
            made.append(torch.stack([max(channel) for channel in torch.stack(tokens).T]))
        else:
            made.append(sum(tokens) / len(tokens))
    return torch.stack(made)


@pytest.mark.parametrize("how", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("side", ["right", "left"])
@given(st.data())
def test_pooling_is_that_of_a_plain_loop(how: str, side: str, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    seed = data.draw(st.integers(0, 10**6))
    width = max(lengths) + data.draw(st.integers(0, 4))
    states = torch.randn(len(lengths), width, 6, generator=torch.Generator().manual_seed(seed)) - 2
    places = torch.arange(width)
    mask = torch.stack([places < n if side == "right" else places >= width - n for n in lengths]).long()
    made = pool(states, mask, how)
    assert made.shape == (len(lengths), 6)
    torch.testing.assert_close(made, plain(states, mask, how), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", ["mean", "cls", "max", "last"])
def test_pooling_ignores_what_stands_in_padding(how: str) -> None:
    states, mask = torch.randn(2, 5, 4), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    other = states.clone()
    other[0, 3:] = 1e6
    assert torch.equal(pool(states, mask, how), pool(other, mask, how))


@pytest.mark.parametrize("how", ["mean", "cls", "max", "last"])
def test_pooling_is_in_fp32(how: str) -> None:
    states, mask = torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.int64)
    made = pool(states.bfloat16(), mask, how)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, plain(states.bfloat16().float(), mask, how))


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_a_head_is_hidden_layers_with_gelu_then_linear(hidden: tuple[int, ...]) -> None:
    head = Head(5, 3, NewHead(hidden=hidden, dropout=0.2))
    assert [layer.p for layer in head.layers if isinstance(layer, nn.Dropout)] == [0.2] * (len(hidden) + 1)
    inputs = torch.randn(4, 5)
    linears = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == list(
        zip((5, *hidden), (*hidden, 3), strict=True)
    )
    expected = inputs
    for number, layer in enumerate(linears):
        expected = expected @ layer.weight.T + layer.bias
        if number < len(hidden):
            expected = 0.5 * expected * (1 + torch.erf(expected / 2**0.5))
    torch.testing.assert_close(head.eval()(inputs), expected)


def test_a_head_computes_in_fp32_under_autocast() -> None:
    head = Head(5, 3, NewHead()).eval()
    inputs = torch.randn(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made, lower = head(inputs), head.layers(inputs)
    assert lower.dtype == torch.bfloat16
    assert made.dtype == torch.float32
    assert torch.equal(made, head(inputs))


def test_new_weights_are_normal_and_biases_zero() -> None:
    layer = nn.Linear(200, 300)
    start(layer, seed=4)
    assert torch.equal(layer.bias, torch.zeros(300))
    assert abs(float(layer.weight.detach().mean())) < 0.02 * 5 / 60_000**0.5
    assert abs(float(layer.weight.detach().std()) - 0.02) < 0.0005
    other = nn.Linear(200, 300)
    start(other, seed=4)
    assert torch.equal(layer.weight, other.weight)
