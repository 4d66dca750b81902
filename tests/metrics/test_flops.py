"""The counter and the terms of the formulas, against sums that one can do by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from melody.metrics.flops import Cost, attention, convolution, count, fourier, linear, product, table


def test_costs_add_up_and_repeat() -> None:
    layer = linear(2, 3, 5, bias=True) + attention(2, 7, 4)
    assert layer == Cost(flops=60 + 224, weights=20)
    assert layer.times(3) == layer + layer + layer


def test_a_weight_without_rows_is_not_read() -> None:
    assert linear(0, 3, 5) == Cost()
    assert product(2, 3, 5) == Cost(flops=60)


def test_a_table_is_read_once_at_most() -> None:
    assert table(3, 8, rows=100).weights == 24
    assert table(300, 8, rows=100).weights == 800


def test_a_transform_stands_beside() -> None:
    assert fourier(10, 1024) == Cost(beside=10 * 1024 * 25)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("transposed", [False, True])
def test_counts_convolutions(device: str, transposed: bool) -> None:
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    layer = kind(6, 4, 5, stride=2, groups=2).to(device)
    given = torch.zeros(1, 6, 21, device=device)
    positions = 21 if transposed else layer(given).shape[-1]
    expected = convolution(positions, 6, 4, 5, groups=2)
    found = count(layer, lambda: layer(given))
    assert (found.flops, found.weights) == (expected.flops, expected.weights)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_attention_on_the_cpu_as_elsewhere(device: str) -> None:
    heads = torch.zeros(2, 4, 10, 8, device=device)
    found = count(nn.Identity(), lambda: F.scaled_dot_product_attention(heads, heads, heads, is_causal=True))
    assert found.flops == attention(10, 10, 32).times(2).flops


def test_reads_are_of_what_is_used_once_each_and_through_views() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.used, self.unused = nn.Embedding(50, 4), nn.Linear(4, 6), nn.Linear(4, 6)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            hidden = self.words(ids)
            once = F.linear(hidden, self.used.weight[2:], self.used.bias[2:])
            return once + F.linear(hidden, self.used.weight[2:])

    module = Module()
    assert count(module, lambda: module(torch.tensor([[1, 2, 3]]))).weights == 3 * 4 + 4 * 4 + 4


def test_counting_leaves_no_gradients_and_no_mode_behind() -> None:
    layer = nn.Linear(3, 3)
    count(layer, lambda: layer(torch.zeros(1, 3)))
    assert layer(torch.zeros(1, 3)).requires_grad
