"""The recurrent unit against its equations, written out with scalars, and its derivative against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from melody.diffusion.norm import EPSILON, RMSNorm
from melody.diffusion.sru import SRU


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def unit(
    x: list[list[float]], w: Tensor, w_f: Tensor, w_r: Tensor, b_f: Tensor, b_r: Tensor, carry: list[list[float]]
) -> list[list[float]]:
    """One direction of one layer, from the equations of Lei et al. 2018; matrices ``(hidden, input)``."""

    def dot(row: Tensor, vector: list[float]) -> float:
        return sum(float(a) * b for a, b in zip(row, vector, strict=True))

    hidden = len(w)
    state = [0.0] * hidden
    outputs = []
    for step, passed in zip(x, carry, strict=True):
        output = []
        for i in range(hidden):
            f = sigmoid(dot(w_f[i], step) + float(b_f[i]))
            r = sigmoid(dot(w_r[i], step) + float(b_r[i]))
            state[i] = f * state[i] + (1 - f) * dot(w[i], step)
            output.append(r * state[i] + (1 - r) * passed[i])
        outputs.append(output)
    return outputs


def reference_layer(layer: torch.nn.Module, x: list[list[float]]) -> list[list[float]]:
    """Both directions: the backward one reads from the end, and its outputs are put back in order."""
    width, hidden = layer.width, layer.width // 2
    products = layer.weight.detach().split(width)
    carry = (
        x
        if len(products) == 3
        else [[float(v) for v in products[3] @ torch.tensor(step, dtype=torch.float64)] for step in x]
    )
    b_f, b_r = layer.bias.detach().split(width)
    halves = []
    for part, order in ((slice(0, hidden), 1), (slice(hidden, width), -1)):
        outputs = unit(
            x[::order], *(p[part] for p in products[:3]), b_f[part], b_r[part], [step[part] for step in carry][::order]
        )
        halves.append(outputs[::order])
    return [left + right for left, right in zip(*halves, strict=True)]


def random_sru(input_size: int, hidden_size: int, num_layers: int) -> SRU:
    torch.manual_seed(0)
    sru = SRU(input_size, hidden_size, num_layers).double()
    for layer in sru.layers:
        torch.nn.init.normal_(layer.bias)
    return sru


@pytest.mark.parametrize(("input_size", "hidden_size"), [(6, 3), (4, 4), (5, 2)])
def test_equals_the_equations(input_size: int, hidden_size: int) -> None:
    sru = random_sru(input_size, hidden_size, num_layers=2)
    x = torch.randn(7, 3, input_size, dtype=torch.float64)
    output = sru(x)
    assert output.shape == (7, 3, 2 * hidden_size)
    for row in range(3):
        expected = x[:, row].tolist()
        for layer in sru.layers:
            expected = reference_layer(layer, expected)
        torch.testing.assert_close(output[:, row], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("input_size", "hidden_size"), [(4, 2), (3, 2)])
def test_derivative_equals_finite_differences(input_size: int, hidden_size: int) -> None:
    sru = random_sru(input_size, hidden_size, num_layers=2)
    x = torch.randn(5, 2, input_size, dtype=torch.float64, requires_grad=True)
    padding = torch.zeros(5, 2, 1, dtype=torch.bool)
    padding[:2, 0] = True
    padding[4, 1] = True
    assert torch.autograd.gradcheck(lambda x, *_: sru(x), (x, *sru.parameters()))
    assert torch.autograd.gradcheck(lambda x, *_: sru(x, padding), (x, *sru.parameters()))


def test_both_directions_are_read() -> None:
    sru = random_sru(4, 2, num_layers=1)
    x = torch.randn(6, 1, 4, dtype=torch.float64)
    changed = x.clone()
    changed[3] += 1
    difference = (sru(x) - sru(changed)).abs()[:, 0]
    assert (difference[:3, :2] == 0).all()
    assert (difference[3:, :2] > 0).any(dim=1).all()
    assert (difference[4:, 2:] == 0).all()
    assert (difference[:4, 2:] > 0).any(dim=1).all()


def test_padding_keeps_the_state_whatever_it_holds() -> None:
    sru = random_sru(4, 2, num_layers=2)
    x = torch.randn(5, 1, 4, dtype=torch.float64)
    garbage = torch.full((3, 1, 4), 1e3, dtype=torch.float64)
    padded = torch.cat([garbage, x, garbage])
    padding = torch.ones(11, 1, 1, dtype=torch.bool)
    padding[3:8] = False
    torch.testing.assert_close(sru(padded, padding)[3:8], sru(x))


def test_norm_equals_torch_and_so_does_its_derivative() -> None:
    torch.manual_seed(0)
    ours, theirs = RMSNorm(6).double(), torch.nn.RMSNorm(6, eps=EPSILON).double()
    torch.nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    keep = torch.tensor([[1], [0], [1]])
    assert torch.autograd.gradcheck(lambda x, _: ours(x, keep), (x, ours.weight))
    assert (ours(x, keep)[:, 1] == 0).all()
