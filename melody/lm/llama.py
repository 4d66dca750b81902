"""The semantic language model: a decoder-only Transformer of the LLaMA architecture (section 1 of the paper).

RMSNorm before every part, rotary positions, SwiGLU, no biases, a head of its own. The vocabulary holds the MuLan tokens
of every level of the quantiser, level after level, and then the semantic tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.errors import MelodyError
from melody.lm.decoding import check_decoding, draw, draw_uniforms, token_probabilities
from melody.protocols import LanguageModel
from melody.registry import language_models

NORM_EPSILON = 1e-6  # Touvron et al. 2023 (LLaMA)
ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2
INIT_STD = 0.02  # ours, after GPT-2


@dataclass
class Cache:
    """Keys and values of the tokens so far, in tensors that never move."""

    keys: Tensor  # (num_layers, B, heads, capacity, head_dim)
    values: Tensor
    length: int = 0


@language_models.register("llama")
class Llama(nn.Module, LanguageModel):
    """LLaMA-type language model from MuLan tokens to semantic tokens (section 1: 429.5M parameters).

    The defaults have 429.97M parameters, 0.1 % more than the paper prints.

    Args:
        num_prefix_tokens: P, MuLan tokens before the semantic ones, one a level of the quantiser (section 1).
        prefix_codebook_size: size of a level of the quantiser.
        codebook_size: how many semantic tokens there are (section 1).
        hidden_size: width.
        num_layers: layers.
        num_heads: heads of attention.
        feed_forward_size: inner width of SwiGLU.
        max_tokens: semantic tokens in a sequence at most; the paper trains on 250, the limit is ours.
    Raises:
        MelodyError: sizes that do not fit together.
    """

    def __init__(
        self,
        num_prefix_tokens: int = 12,
        prefix_codebook_size: int = 1024,
        codebook_size: int = 1024,
        hidden_size: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        feed_forward_size: int = 4096,
        max_tokens: int = 512,
    ) -> None:
        super().__init__()
        if hidden_size % (2 * num_heads):
            raise MelodyError(f"hidden_size is {hidden_size}: expected a multiple of 2 * num_heads = {2 * num_heads}")
        self.num_prefix_tokens = num_prefix_tokens
        self.prefix_codebook_size = prefix_codebook_size
        self.codebook_size = codebook_size
        self.max_tokens = max_tokens
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.first_semantic_row = num_prefix_tokens * prefix_codebook_size
        self.embedding = nn.Embedding(self.first_semantic_row + codebook_size, hidden_size)
        self.layers = nn.ModuleList(_Layer(hidden_size, num_heads, feed_forward_size) for _ in range(num_layers))
        self.norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.head = nn.Linear(hidden_size, self.first_semantic_row + codebook_size, bias=False)
        self._initialise(num_layers)

    def _initialise(self, num_layers: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            into_residual = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            nn.init.normal_(parameter, std=INIT_STD / (2 * num_layers) ** 0.5 if into_residual else INIT_STD)

    def rows(self, prefix: Tensor, semantic_tokens: Tensor) -> Tensor:
        """Rows of the vocabulary ``(B, P + N)`` for MuLan tokens ``(B, P)`` and semantic tokens ``(B, N)``.

        Level i's token t has row ``i * prefix_codebook_size + t``; semantic tokens come after all levels.
        """
        level = torch.arange(self.num_prefix_tokens, device=prefix.device) * self.prefix_codebook_size
        return torch.cat([prefix + level, semantic_tokens + self.first_semantic_row], dim=1)

    def forward(self, rows: Tensor, cache: Cache | None = None) -> Tensor:
        """Rows ``(B, N)`` -> logits of what follows each, ``(B, N, V)``; with a cache, the last, ``(B, 1, V)``."""
        hidden = self._hidden(rows, cache)  # (B, N, d)
        if cache is not None:
            hidden = hidden[:, -1:]
        logits: Tensor = self.head(hidden)  # (B, N or 1, V)
        return logits

    def _hidden(self, rows: Tensor, cache: Cache | None) -> Tensor:
        start = 0 if cache is None else cache.length
        rotation = _rotation(start, rows.shape[1], self.head_dim, rows.device)
        x: Tensor = self.embedding(rows)  # (B, N, d)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, index, cache)  # (B, N, d)
        if cache is not None:
            cache.length += rows.shape[1]
        x = self.norm(x)
        return x  # noqa: RET504 (forward order)

    def loss(self, prefix: Tensor, semantic_tokens: Tensor) -> Tensor:
        """Mean cross-entropy (nats) of semantic tokens ``(B, N)`` given the prefix ``(B, P)``, among semantic tokens.

        Raises:
            MelodyError: wrong shapes, no tokens, tokens outside their codebook, more than ``max_tokens``.
        """
        self._check_tokens(prefix, semantic_tokens, new_tokens=0)
        if not semantic_tokens.numel():
            raise MelodyError("there are no semantic tokens to compute the loss of: expected 1 or more a row")
        rows = self.rows(prefix, semantic_tokens)[:, :-1]  # (B, P + N - 1)
        hidden = self._hidden(rows, None)[:, self.num_prefix_tokens - 1 :]  # (B, N, d)
        logits = F.linear(hidden, self.head.weight[self.first_semantic_row :])  # (B, N, codebook_size)
        return F.cross_entropy(logits.flatten(0, 1), semantic_tokens.flatten())

    @torch.no_grad()
    def generate(
        self,
        prefix: Tensor,
        num_tokens: int,
        *,
        semantic_tokens: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: Sequence[torch.Generator] | torch.Generator | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Draw semantic tokens, one forward pass each: the first takes in the prefix and the tokens so far.

        Args:
            prefix: MuLan tokens ``(B, P)``, each in ``[0, prefix_codebook_size)``.
            num_tokens: how many new tokens.
            semantic_tokens: tokens so far ``(B, N)``, to continue from.
            generator: one per row, one for all, or none (the global one).
            callback: called with (tokens drawn, ``num_tokens``) after each.
        Returns:
            The new tokens ``(B, num_tokens)``, each in ``[0, codebook_size)``.
        Raises:
            MelodyError: bad tokens or settings, more than ``max_tokens`` semantic tokens in all, damaged weights.
        """
        check_decoding(temperature, top_k, top_p)
        if num_tokens < 0:
            raise MelodyError(f"num_tokens is {num_tokens}: expected 0 or more")
        given = prefix.new_zeros(len(prefix), 0) if semantic_tokens is None else semantic_tokens
        self._check_tokens(prefix, given, new_tokens=num_tokens)
        rows = self.rows(prefix, given)
        cache = self._empty_cache(len(rows), capacity=rows.shape[1] + num_tokens)
        drawn: list[Tensor] = []
        while len(drawn) < num_tokens:
            logits = self(rows, cache)[:, -1, self.first_semantic_row :]  # (B, codebook_size)
            if not torch.isfinite(logits).all():
                raise MelodyError(
                    f"the logits of token {len(drawn)} are not finite: the weights are damaged or diverged"
                )
            probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            tokens = draw(probabilities, draw_uniforms(len(rows), generator, rows.device))  # (B,)
            drawn.append(tokens)
            rows = tokens[:, None] + self.first_semantic_row
            if callback is not None:
                callback(len(drawn), num_tokens)
        return torch.stack(drawn, dim=1) if drawn else given[:, :0]

    def _empty_cache(self, batch: int, capacity: int) -> Cache:
        shape = (len(self.layers), batch, self.num_heads, capacity, self.head_dim)
        weight = self.head.weight
        return Cache(weight.new_empty(shape), weight.new_empty(shape))

    def _check_tokens(self, prefix: Tensor, semantic_tokens: Tensor, new_tokens: int) -> None:
        _check_range("the prefix", prefix, self.num_prefix_tokens, self.prefix_codebook_size)
        _check_range("semantic tokens", semantic_tokens, None, self.codebook_size)
        if len(prefix) != len(semantic_tokens):
            raise MelodyError(f"there are {len(prefix)} prefixes for {len(semantic_tokens)} rows of semantic tokens")
        given = semantic_tokens.shape[1]
        if given + new_tokens > self.max_tokens:
            raise MelodyError(
                f"{given} given and {new_tokens} new semantic tokens are {given + new_tokens}: "
                f"expected at most max_tokens = {self.max_tokens}"
            )


class _Layer(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, feed_forward_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.attention = _Attention(hidden_size, num_heads)
        self.feed_forward_norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.feed_forward = _SwiGLU(hidden_size, feed_forward_size)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], index: int, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, index, cache)
        output: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return output


class _Attention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries_keys_values = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], index: int, cache: Cache | None) -> Tensor:
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, head_dim)
        queries, keys, values = heads.transpose(1, 3).unbind(2)  # (B, heads, N, head_dim)
        queries, keys = _rotate(queries, rotation), _rotate(keys, rotation)
        start = 0
        if cache is not None:
            start, end = cache.length, cache.length + x.shape[1]
            cache.keys[index, :, :, start:end] = keys
            cache.values[index, :, :, start:end] = values
            keys, values = cache.keys[index, :, :, :end], cache.values[index, :, :, :end]
        assert start == 0 or x.shape[1] == 1, "after the first pass, tokens come one by one"
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=start == 0)
        output: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, N, d)
        return output


class _SwiGLU(nn.Module):
    def __init__(self, hidden_size: int, feed_forward_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden_size, 2 * feed_forward_size, bias=False)
        self.down = nn.Linear(feed_forward_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        output: Tensor = self.down(F.silu(gate) * up)
        return output


def _rotation(start: int, length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(length, head_dim / 2)`` of positions from ``start`` on."""
    exponent = torch.arange(0, head_dim, 2, device=device) / head_dim
    angle = torch.arange(start, start + length, device=device)[:, None] * ROTARY_BASE**-exponent
    return angle.cos(), angle.sin()


def _rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _check_range(what: str, tokens: Tensor, length: int | None, codebook_size: int) -> None:
    if tokens.ndim != 2 or tokens.is_floating_point() or length not in (None, tokens.shape[1]):
        raise MelodyError(
            f"{what}: got {tokens.dtype} of shape {tuple(tokens.shape)}, "
            f"expected integers of shape (batch, {length or 'tokens'})"
        )
    if not tokens.numel():
        return
    low, high = (int(bound) for bound in tokens.aminmax())
    if low < 0 or high >= codebook_size:
        raise MelodyError(f"{what}: got values in [{low}, {high}], expected [0, {codebook_size - 1}]")
