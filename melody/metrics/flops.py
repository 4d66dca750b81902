"""FLOPs, and the weights that a pass reads: by formula, and by counting what torch executes.

- A FLOP is one addition or one multiplication of a product: of matrices, of a convolution, of attention (scores and
  weighted sum, causal or not, over all keys). So a product of ``(rows, n)`` with ``(n, m)`` is 2·rows·n·m. This is what
  torch's ``FlopCounterMode`` counts, and the formulas keep to it. Normalisation, activation, softmax and additions of
  biases are counted by neither.
- ``beside`` holds, by formula, what the counter cannot see and is no product either: Fourier transforms, and the
  recurrence of an SRU. It is never part of ``flops``.
- ``weights`` are values of parameters that a pass reads, each once: a table counts the rows that are looked up.
  Multiply by the bytes of a value (``BYTES``) for memory traffic; buffers, activations and caches are not in it.
- Formulas are sums of the functions below, from shapes alone: they need no network, and hold for systems that nobody
  can run.

Unit: FLOPs, and values. Version 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

BYTES = {"fp32": 4, "half": 2}
"""Bytes a value; half precision is bf16 or fp16."""


@dataclass(frozen=True)
class Cost:
    """What a pass takes, by formula; costs add up."""

    flops: int = 0
    weights: int = 0
    beside: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.weights + other.weights, self.beside + other.beside)

    def times(self, layers: int) -> Cost:
        """The cost of so many layers alike, each with weights of its own."""
        return Cost(layers * self.flops, layers * self.weights, layers * self.beside)


def linear(rows: int, n_in: int, n_out: int, bias: bool = False) -> Cost:
    """Rows ``(rows, n_in)`` times a weight ``(n_out, n_in)``; without rows the weight is not read.

    >>> linear(10, 3, 4, bias=True)
    Cost(flops=240, weights=16, beside=0)
    """
    return Cost(2 * rows * n_in * n_out, n_in * n_out + bias * n_out) if rows else Cost()


def product(rows: int, n_in: int, n_out: int) -> Cost:
    """As ``linear``, with a matrix that is no parameter: a filter bank, centroids."""
    return Cost(2 * rows * n_in * n_out)


def attention(queries: int, keys: int, width: int) -> Cost:
    """Scores and weighted sum of all heads together, ``width`` wide; projections are not in it.

    >>> attention(1, 100, 8).flops
    3200
    """
    return Cost(4 * queries * keys * width)


def convolution(positions: int, n_in: int, n_out: int, kernel: int, *, groups: int = 1, bias: bool = True) -> Cost:
    """A convolution that is evaluated at ``positions``: outputs, or inputs if it is transposed.

    Args:
        kernel: taps, of a two-dimensional one their number.
    """
    taps = n_in * n_out * kernel // groups
    return Cost(2 * positions * taps, taps + bias * n_out)


def parameters(count: int) -> Cost:
    """Weights that are read and not multiplied as matrices: norms, position vectors."""
    return Cost(weights=count)


def table(lookups: int, width: int, rows: int) -> Cost:
    """Rows of an embedding, each read once at most."""
    return Cost(weights=min(lookups, rows) * width)


def fourier(frames: int, n_fft: int) -> Cost:
    """Real transforms of ``n_fft`` samples: 2.5·n·log2(n) each, half of a complex transform's 5·n·log2(n)."""
    return Cost(beside=round(frames * 2.5 * n_fft * math.log2(n_fft)))


def recurrence(positions: int, width: int) -> Cost:
    """The states and the highway of an SRU: two interpolations, of three operations each, a place and channel."""
    return Cost(beside=6 * positions * width)


@dataclass(frozen=True)
class Count:
    """What was seen while a pass ran."""

    flops: int
    weights: int


@torch.no_grad()
def count(module: nn.Module, run: Callable[[], Any]) -> Count:
    """Run a pass and count: FLOPs by torch's counter, and values of the module's parameters that operations read.

    On the meta device it takes neither memory nor time; on any other it computes. Operations that torch's counter does
    not know count as 0: Fourier transforms, elementwise work, kernels from outside torch.
    """
    reads = _Reads(module)
    # torch counts attention on its GPU kernels only.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter, reads:
        run()
    return Count(counter.get_total_flops(), sum(reads.values.values()))


def _attention_flops(queries: Sequence[int], keys: Sequence[int], *_: Any, **__: Any) -> int:
    """Of shapes ``(B, heads, N, head_dim)``."""
    batch, heads, length, head_dim = queries
    return batch * attention(length, keys[2], heads * head_dim).flops


class _Reads(TorchDispatchMode):
    """Remembers how many values of each parameter an operation has read, through views too."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.values: dict[int, int] = {}
        self._kept = list(module.parameters())  # as long as they live, their storages are told apart by address
        self._storages = {_storage(parameter) for parameter in self._kept}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            for tensor in tree_iter((args, kwargs)):
                if isinstance(tensor, Tensor) and _storage(tensor) in self._storages:
                    read = tensor.numel()
                    if func is torch.ops.aten.embedding.default:
                        read = min(args[1].numel(), len(tensor)) * tensor.shape[1]
                    key = _storage(tensor)
                    self.values[key] = max(read, self.values.get(key, 0))
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
