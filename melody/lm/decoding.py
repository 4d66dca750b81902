"""How a token is drawn from logits: temperature, top-k, top-p, and the inverse of the cumulative distribution.

All in float64, with one uniform number a row and token, so that a row draws the same alone as in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from melody.errors import MelodyError


def check_decoding(temperature: float, top_k: int | None, top_p: float | None, guidance_scale: float = 1.0) -> None:
    """Raise ``MelodyError`` for settings that define no distribution."""
    if not 0 < temperature < math.inf:
        raise MelodyError(f"temperature is {temperature}: expected a number above 0 (the limit 0 is top_k = 1)")
    if top_k is not None and top_k < 1:
        raise MelodyError(f"top_k is {top_k}: expected 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise MelodyError(f"top_p is {top_p}: expected more than 0 and at most 1")
    if not 0 <= guidance_scale < math.inf:
        raise MelodyError(f"the language model's guidance_scale is {guidance_scale}: expected 0 or more (1 is none)")


def guide(logits: Tensor, scale: float) -> Tensor:
    """Logits ``(2 B, V)``, of rows with their prefix and then of the same rows without, to guided ones ``(B, V)``."""
    given, free = logits.chunk(2)
    return free + scale * (given - free)


def token_probabilities(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Distribution ``(..., V)`` that a token is drawn from; top-k comes before top-p.

    >>> token_probabilities(torch.tensor([2.0, 0.0, 2.0]), top_k=2).tolist()
    [0.5, 0.0, 0.5]
    """
    probabilities = (logits.double() / temperature).softmax(dim=-1)
    if top_k is not None:
        probabilities = keep_top_k(probabilities, top_k)
    if top_p is not None:
        probabilities = keep_top_p(probabilities, top_p)
    return probabilities


def keep_top_k(probabilities: Tensor, top_k: int) -> Tensor:
    """The ``top_k`` most probable tokens, normalised; of equal ones, as many as there is room for."""
    values, tokens = probabilities.topk(min(top_k, probabilities.shape[-1]), dim=-1)
    kept = torch.zeros_like(probabilities).scatter(-1, tokens, values)
    return kept / kept.sum(dim=-1, keepdim=True)


def keep_top_p(probabilities: Tensor, top_p: float) -> Tensor:
    """The fewest most probable tokens that together reach ``top_p``, normalised (Holtzman et al. 2020, section 3.1)."""
    values, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    before = values.cumsum(dim=-1) - values
    values = values.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(probabilities).scatter(-1, tokens, values)
    return kept / kept.sum(dim=-1, keepdim=True)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens ``(B,)``: the first whose cumulative probability, of ``(B, V)``, exceeds the uniform number ``(B,)``."""
    cumulative = probabilities.cumsum(dim=-1)
    reached = (uniforms * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, reached, right=True)[:, 0]


def draw_uniforms(
    rows: int, generator: Sequence[torch.Generator] | torch.Generator | None, device: torch.device, count: int = 1
) -> Tensor:
    """Float64 in [0, 1) ``(rows, count)``, each row from its own generator if there is one a row.

    Raises:
        MelodyError: another number of generators than rows.
    """
    if generator is None:
        return torch.rand(rows, count, dtype=torch.float64, device=device)
    if isinstance(generator, torch.Generator):
        return torch.rand(rows, count, dtype=torch.float64, device=generator.device, generator=generator).to(device)
    if len(generator) != rows:
        raise MelodyError(f"there are {len(generator)} generators for {rows} rows: expected one a row")
    drawn = [torch.rand(count, dtype=torch.float64, device=each.device, generator=each) for each in generator]
    return torch.stack(drawn).to(device)
