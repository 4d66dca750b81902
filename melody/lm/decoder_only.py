"""What every decoder-only semantic language model shares: vocabulary, loss, decoding, the checks of what comes in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody import threads
from melody.errors import MelodyError
from melody.lm.decoding import check_decoding, draw, draw_uniforms, guide, token_probabilities
from melody.protocols import LanguageModel

INIT_STD = 0.02  # ours, after GPT-2
DROPPED = -1
"""In place of a row of the vocabulary: the network sees zeros there (word dropout, Bowman et al., arXiv 1511.06349)."""


def embed(embedding: nn.Embedding, rows: Tensor) -> Tensor:
    """Rows ``(B, N)`` -> ``(B, N, d)``, zeros for those that are ``DROPPED``."""
    embedded: Tensor = embedding(rows.clamp(min=0)) * (rows != DROPPED)[..., None]
    return embedded


def initialise(network: nn.Module, num_layers: int, into_residual: tuple[str, ...]) -> None:
    """Normal weights, smaller where a product goes into the residual stream, by the number of products (GPT-2)."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            last = name.endswith(into_residual)
            nn.init.normal_(parameter, std=INIT_STD / (2 * num_layers) ** 0.5 if last else INIT_STD)


class DecoderOnly(nn.Module, LanguageModel):
    """Language model over rows of one vocabulary: the MuLan tokens of every level, then the semantic tokens.

    A subclass builds its network and implements what is abstract here.

    Args:
        num_prefix_tokens: P, MuLan tokens before the semantic ones, one a level of the quantiser.
        prefix_codebook_size: size of a level of the quantiser.
        codebook_size: how many semantic tokens there are.
        max_tokens: semantic tokens in a sequence at most.
    """

    def __init__(self, num_prefix_tokens: int, prefix_codebook_size: int, codebook_size: int, max_tokens: int) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        self.prefix_codebook_size = prefix_codebook_size
        self.codebook_size = codebook_size
        self.max_tokens = max_tokens
        self.first_semantic_row = num_prefix_tokens * prefix_codebook_size

    @property
    def vocabulary_size(self) -> int:
        """V, rows of the vocabulary."""
        return self.first_semantic_row + self.codebook_size

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """The output layer's weight ``(V, d)``."""

    @abstractmethod
    def hidden(self, rows: Tensor) -> Tensor:
        """Rows ``(B, N)`` -> what the output layer sees, ``(B, N, d)``."""

    @abstractmethod
    def empty_cache(self, batch: int, capacity: int) -> Any:
        """A static key-value cache of ``capacity`` places, for ``forward`` to fill."""

    @abstractmethod
    def forward(self, rows: Tensor, cache: Any = None) -> Tensor:
        """Rows ``(B, N)`` -> logits of what follows each, ``(B, N, V)``; with a cache, the last, ``(B, 1, V)``."""

    def rows(self, prefix: Tensor, semantic_tokens: Tensor) -> Tensor:
        """Rows of the vocabulary ``(B, P + N)`` for MuLan tokens ``(B, P)`` and semantic tokens ``(B, N)``.

        Level i's token t has row ``i * prefix_codebook_size + t``; semantic tokens come after all levels.
        """
        level = torch.arange(self.num_prefix_tokens, device=prefix.device) * self.prefix_codebook_size
        return torch.cat([prefix + level, semantic_tokens + self.first_semantic_row], dim=1)

    def loss(self, prefix: Tensor, semantic_tokens: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Mean cross-entropy (nats) of semantic tokens ``(B, N)`` given the prefix ``(B, P)``, among semantic tokens.

        Args:
            dropped: boolean ``(B, P + N)``, the tokens that are hidden from the network; all are predicted.
        Raises:
            MelodyError: wrong shapes, no tokens, tokens outside their codebook, more than ``max_tokens``.
        """
        self._check_tokens(prefix, semantic_tokens, new_tokens=0)
        if not semantic_tokens.numel():
            raise MelodyError("there are no semantic tokens to compute the loss of: expected 1 or more a row")
        rows = self.rows(prefix, semantic_tokens)
        if dropped is not None:
            rows = rows.masked_fill(dropped, DROPPED)
        hidden = self.hidden(rows[:, :-1])[:, self.num_prefix_tokens - 1 :]  # (B, N, d)
        logits = F.linear(hidden, self.head_weight[self.first_semantic_row :])  # (B, N, codebook_size)
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
        guidance_scale: float = 1.0,
        generator: Sequence[torch.Generator] | torch.Generator | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Draw semantic tokens, one forward pass each: the first takes in the prefix and the tokens so far.

        With guidance, a pass takes every row twice, with the prefix and without it, and the logits are
        ``free + guidance_scale * (given - free)`` (MusicGen, arXiv 2306.05284, section 3.1).

        Args:
            prefix: MuLan tokens ``(B, P)``, each in ``[0, prefix_codebook_size)``.
            num_tokens: how many new tokens.
            semantic_tokens: tokens so far ``(B, N)``, to continue from.
            guidance_scale: 1 is none; more needs a model that was trained with its prefix dropped at times.
            generator: one per row, one for all, or none (the global one).
            callback: called with (tokens drawn, ``num_tokens``) after each.
        Returns:
            The new tokens ``(B, num_tokens)``, each in ``[0, codebook_size)``.
        Raises:
            MelodyError: bad tokens or settings, more than ``max_tokens`` semantic tokens in all, damaged weights.
        """
        check_decoding(temperature, top_k, top_p, guidance_scale)
        if num_tokens < 0:
            raise MelodyError(f"num_tokens is {num_tokens}: expected 0 or more")
        given = prefix.new_zeros(len(prefix), 0) if semantic_tokens is None else semantic_tokens
        self._check_tokens(prefix, given, new_tokens=num_tokens)
        rows = self.rows(prefix, given)
        if guided := guidance_scale != 1:
            rows = torch.cat([rows, rows])
            rows[len(prefix) :, : self.num_prefix_tokens] = DROPPED
        cache = self.empty_cache(len(rows), capacity=rows.shape[1] + num_tokens)
        drawn: list[Tensor] = []
        while len(drawn) < num_tokens:
            threads.adapt()
            logits = self(rows, cache)[:, -1, self.first_semantic_row :]  # (B, codebook_size)
            if guided:
                logits = guide(logits, guidance_scale)
            if not torch.isfinite(logits).all():
                raise MelodyError(
                    f"the logits of token {len(drawn)} are not finite: the weights are damaged or diverged"
                )
            probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            tokens = draw(probabilities, draw_uniforms(len(prefix), generator, rows.device)[:, 0])  # (B,)
            drawn.append(tokens)
            rows = tokens.repeat(2 if guided else 1)[:, None] + self.first_semantic_row
            if callback is not None:
                callback(len(drawn), num_tokens)
        return torch.stack(drawn, dim=1) if drawn else given[:, :0]

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
