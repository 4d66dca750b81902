"""Simple recurrent unit (Lei et al. 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence").

The gates see the input only (the first version of the unit), so all products with weights come before the recurrence:

    f_t = sigmoid(W_f x_t + b_f)                forget gate
    r_t = sigmoid(W_r x_t + b_r)                reset gate
    c_t = f_t c_{t-1} + (1 - f_t) W x_t         state, c_0 = 0
    h_t = r_t c_t + (1 - r_t) x_t               output: a highway around the unit
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class SRU(nn.Module):
    """Layers of bidirectional SRU along the first dimension.

    Where the highway's widths differ (input against both directions' output) it passes through a product with weights,
    as in the paper of the unit.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(_Layer(size, hidden_size) for size in sizes)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """``(K, ..., input_size)`` -> ``(K, ..., 2 * hidden_size)``, forward direction first.

        Args:
            padding: boolean, broadcasts to ``x``; a padded place leaves the state as it is, whatever it holds.
        """
        for layer in self.layers:
            x = layer(x, padding)
        return x


class _Layer(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.width = 2 * hidden_size  # both directions side by side
        num_products = 3 if input_size == self.width else 4
        self.weight = nn.Parameter(torch.empty(num_products * self.width, input_size))
        self.bias = nn.Parameter(torch.zeros(2 * self.width))  # of the gates f, r
        nn.init.uniform_(self.weight, -((3 / input_size) ** 0.5), (3 / input_size) ** 0.5)  # Lei et al., section 3.3

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        extra = self.weight.shape[0] - 3 * self.width
        products = F.linear(x, self.weight, F.pad(self.bias, (self.width, extra)))  # W x and the highway have no bias
        highway = x
        if extra:
            products, highway = products.split([3 * self.width, extra], dim=-1)
        products, highway = products.to(x.dtype), highway.to(x.dtype)  # under autocast K steps keep their precision
        if torch.compiler.is_compiling() and not torch.is_grad_enabled():
            return _fused(products, highway, padding)
        output: Tensor = _Recurrence.apply(products, highway, padding)
        return output


def _fused(products: Tensor, highway: Tensor, padding: Tensor | None) -> Tensor:
    """``_Recurrence`` in a form that a compiler follows without a break, and makes one kernel of: no step in place.

    For inference on a CPU that takes what the steps in place take, within a few per cent at the paper's size; in
    training the derivative by hand is the faster one (``benchmarks/recurrence.py``).
    """
    x, forget, reset = products.chunk(3, dim=-1)
    forget, reset = forget.sigmoid(), reset.sigmoid()
    if padding is not None:
        forget = forget.masked_fill(padding, 1.0)
    states = []
    for x_steps, f in zip(_directions(x), _directions(forget), strict=True):
        c = [x_steps[0] - x_steps[0] * f[0]]
        for t in range(1, len(x_steps)):
            c.append(torch.lerp(x_steps[t], c[-1], f[t]))
        states.append(c)
    state = torch.cat([torch.stack(states[0]), torch.stack(states[1][::-1])], dim=-1)
    return torch.lerp(highway, state, reset)


def _directions(tensor: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Steps of the forward half of the features in order, and of the backward half from the last to the first."""
    forward, backward = tensor.chunk(2, dim=-1)
    return forward.unbind(0), backward.unbind(0)[::-1]


class _Recurrence(torch.autograd.Function):
    """Products ``(K, ..., 3 * width)`` of W, W_f, W_r and the highway ``(K, ..., width)`` to the output, gates to end.

    The derivative is by hand: autograd through a loop over K keeps a node and two copies a step. A log-depth scan goes
    through all of memory log2(K) times where the steps go once: 3.7 times slower at the paper's size, 5.5 in training
    (``benchmarks/recurrence.py``).
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, highway: Tensor, padding: Tensor | None) -> Tensor:
        x, forget, reset = products.chunk(3, dim=-1)
        forget, reset = forget.sigmoid(), reset.sigmoid()
        if padding is not None:
            forget.masked_fill_(padding, 1.0)
        state = torch.empty_like(forget)
        for c, x_steps, f in zip(_directions(state), _directions(x), _directions(forget), strict=True):
            torch.sub(x_steps[0], x_steps[0] * f[0], out=c[0])
            for t in range(1, len(c)):
                torch.lerp(x_steps[t], c[t - 1], f[t], out=c[t])
        ctx.save_for_backward(products, highway, forget, reset, state)
        return torch.lerp(highway, state, reset)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        products, highway, forget, reset, state = ctx.saved_tensors
        grad_products = torch.empty_like(products)
        grad_x, grad_forget, grad_reset = grad_products.chunk(3, dim=-1)
        by_reset = (state - highway).mul_(grad)
        torch.ops.aten.sigmoid_backward.grad_input(by_reset, reset, grad_input=grad_reset)
        grad_state = grad * reset
        grad_highway = grad - grad_state
        by_forget = by_reset.copy_(products[..., : state.shape[-1]]).neg_()  # c_{t-1} - x_t
        for g, f, c, d in zip(*map(_directions, (grad_state, forget, state, by_forget)), strict=True):
            for t in range(len(g) - 1, 0, -1):
                g[t - 1].addcmul_(f[t], g[t])
                d[t].add_(c[t - 1])
        torch.ops.aten.sigmoid_backward.grad_input(by_forget.mul_(grad_state), forget, grad_input=grad_forget)
        torch.addcmul(grad_state, grad_state, forget, value=-1, out=grad_x)
        return grad_products, grad_highway, None
