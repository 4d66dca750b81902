"""Gaussian noise whose bits depend on a row's own generator only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from melody.errors import MelodyError


def standard_normal(
    shape: Sequence[int],
    generator: Sequence[torch.Generator] | torch.Generator | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal noise ``(B, …)``; with one generator a row, a row gets what it would get alone.

    Noise is drawn on the generator's device, so a generator on the CPU gives the same noise for every device.

    Raises:
        MelodyError: a sequence of generators of another length than B.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return _draw(shape, generator, device, dtype)
    if len(generator) != shape[0]:
        raise MelodyError(f"generator: expected one for each of {shape[0]} rows, got {len(generator)}")
    return torch.stack([_draw(shape[1:], row, device, dtype) for row in generator])


def _draw(
    shape: Sequence[int], generator: torch.Generator | None, device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    source = device if generator is None else generator.device
    drawn_as = torch.promote_types(dtype, torch.float32)  # half precision would be drawn from another stream
    return torch.randn(tuple(shape), generator=generator, device=source, dtype=drawn_as).to(device, dtype)
