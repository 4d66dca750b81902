"""A decoder-only Transformer over several streams of tokens: some are given, the last is drawn.

A stream has one or more levels a frame, laid flat frame by frame (f0 l0, f0 l1, …, f1 l0, …), and every level has rows
of its own in the vocabulary. Of the drawn stream, a level's logits are over that level's rows alone.

Rotary positions are places in time, in tokens of the drawn stream: a token that is given has the place where the drawn
stream is at its time, so what sounds together is close together, and a small model need not learn to count. Streams
without time (MuLan tokens) stand before all others. MusicLM has relative position embeddings (recalled); this is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody import threads
from melody.errors import MelodyError
from melody.lm.backbone import INTO_RESIDUAL, NORM_EPSILON, Cache, check_heads, layers_of, through_layers
from melody.lm.decoder_only import DROPPED, embed, initialise
from melody.lm.decoding import check_decoding, draw, draw_uniforms, token_probabilities
from melody.nn.rotary import Rotation


class MultiStream(nn.Module):
    """LLaMA-type network that draws tokens of ``num_levels`` a frame, after the streams that are given.

    Args:
        contexts: of each stream that is given: its levels, its size of a codebook, and how many drawn tokens one of its
            tokens lasts, or 0 for a stream without time.
        num_levels: of the drawn stream.
        codebook_size: of each of its levels.
        hidden_size: width; num_layers, num_heads: as usual; feed_forward_size: inner width of SwiGLU.
    Raises:
        MelodyError: sizes that do not fit together, no stream that is given.
    """

    def __init__(
        self,
        contexts: Sequence[tuple[int, int, float]],
        num_levels: int,
        codebook_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int,
    ) -> None:
        super().__init__()
        check_heads(hidden_size, num_heads)
        if not contexts:
            raise MelodyError("no stream is given: expected at least one, for the first token comes after it")
        self.contexts = [(levels, size, step) for levels, size, step in contexts]
        self.num_levels, self.codebook_size = num_levels, codebook_size
        self.head_dim = hidden_size // num_heads
        self.first_row = sum(levels * size for levels, size, _ in self.contexts)
        self.embedding = nn.Embedding(self.first_row + num_levels * codebook_size, hidden_size)
        self.layers = layers_of(hidden_size, num_layers, num_heads, feed_forward_size)
        self.norm = nn.RMSNorm(hidden_size, eps=NORM_EPSILON)
        self.head = nn.Linear(hidden_size, num_levels * codebook_size, bias=False)
        initialise(self, num_layers, INTO_RESIDUAL)

    def forward(self, rows: Tensor, positions: Tensor, level: int, cache: Cache) -> Tensor:
        """Rows ``(B, N)`` at positions ``(N,)``, after those in the cache -> logits ``(B, codebook_size)`` of what
        follows the last, a token of ``level``.
        """
        hidden = self._hidden(rows, positions, cache)[:, -1]  # (B, d)
        return F.linear(hidden, self.head.weight.view(self.num_levels, self.codebook_size, -1)[level])

    def _hidden(self, rows: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        x = embed(self.embedding, rows)  # (B, N, d)
        x = through_layers(self.layers, x, Rotation.at(positions, self.head_dim), cache)  # (B, N, d)
        hidden: Tensor = self.norm(x)
        return hidden

    def given_rows(self, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Rows ``(B, C)`` and positions ``(C,)`` of the streams that are given, each ``(B, frames, levels)``."""
        rows, places, first = [], [], 0
        timeless = sum(tokens[0].numel() for (*_, step), tokens in zip(self.contexts, given, strict=True) if not step)
        for (levels, size, step), tokens in zip(self.contexts, given, strict=True):
            index = torch.arange(tokens[0].numel(), device=tokens.device)
            if step:
                places.append(index * step)
            else:
                places.append((index - timeless).to(torch.get_default_dtype()))
                timeless -= len(index)
            rows.append(_flat_rows(tokens, first, size))
            first += levels * size
        return torch.cat(rows, dim=1), torch.cat(places)

    def loss(self, given: Sequence[Tensor], tokens: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Mean cross-entropy (nats a token) of ``tokens`` ``(B, frames, levels)`` after the streams that are given.

        Args:
            dropped: boolean, as ``tokens``: those that are hidden from the network; all are predicted.
        Raises:
            MelodyError: wrong shapes, no tokens, tokens outside their codebook.
        """
        return self.level_losses(given, tokens, dropped).mean()

    def level_losses(self, given: Sequence[Tensor], tokens: Tensor, dropped: Tensor | None = None) -> Tensor:
        """``loss`` of each level ``(levels,)``."""
        self._check(given, tokens)
        if not tokens.numel():
            raise MelodyError("there are no tokens to compute the loss of: expected 1 or more a row")
        context, places = self.given_rows(given)
        own = _flat_rows(tokens, self.first_row, self.codebook_size)
        if dropped is not None:
            own = own.masked_fill(dropped.flatten(1), DROPPED)
        rows = torch.cat([context, own], dim=1)[:, :-1]
        positions = torch.cat([places, torch.arange(own.shape[1] - 1, device=rows.device)])
        hidden = self._hidden(rows, positions, None)[:, context.shape[1] - 1 :]  # (B, frames * levels, d)
        by_level = hidden.unflatten(1, (-1, self.num_levels)).permute(2, 0, 1, 3).flatten(1, 2)  # (levels, B * F, d)
        weight = self.head.weight.view(self.num_levels, self.codebook_size, -1)
        logits = torch.bmm(by_level, weight.transpose(1, 2)).float()  # (levels, B * F, codebook_size)
        target = tokens.permute(2, 0, 1).flatten(1)  # (levels, B * F)
        losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        return losses.view_as(target).mean(dim=1)

    @torch.no_grad()
    def generate(
        self,
        given: Sequence[Tensor],
        num_frames: int,
        *,
        known: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generators: Sequence[torch.Generator] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Draw frames, one forward pass a token: the first takes in all that is given and known.

        Args:
            given: the streams that are given, each ``(B, frames, levels)``.
            num_frames: how many new frames.
            known: frames so far ``(B, K, levels)``, to go on from.
            generators: one a row; the global one if not given.
            callback: called with (tokens drawn, tokens in all) after each.
        Returns:
            The new frames ``(B, num_frames, levels)``.
        Raises:
            MelodyError: bad tokens or settings, another number of generators than rows, damaged weights.
        """
        check_decoding(temperature, top_k, top_p)
        if num_frames < 0:
            raise MelodyError(f"num_frames is {num_frames}: expected 0 or more")
        batch, device = len(given[0]), given[0].device
        start = given[0].new_zeros(batch, 0, self.num_levels) if known is None else known
        self._check(given, start)
        rows, positions = self.given_rows(given)
        rows = torch.cat([rows, _flat_rows(start, self.first_row, self.codebook_size)], dim=1)
        begin, total = start[0].numel(), num_frames * self.num_levels
        positions = torch.cat([positions, torch.arange(begin, device=device)])
        uniforms = draw_uniforms(batch, generators, device, total)
        cache = self.empty_cache(batch, rows.shape[1] + total)
        drawn: list[Tensor] = []
        while len(drawn) < total:
            threads.adapt()
            level = len(drawn) % self.num_levels
            logits = self(rows, positions, level, cache)  # (B, codebook_size)
            if not torch.isfinite(logits).all():
                raise MelodyError(
                    f"the logits of token {len(drawn)} are not finite: the weights are damaged or diverged"
                )
            probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            tokens = draw(probabilities, uniforms[:, len(drawn)])  # (B,)
            rows = tokens[:, None] + (self.first_row + level * self.codebook_size)
            positions = torch.full((1,), begin + len(drawn), device=device)
            drawn.append(tokens)
            if callback is not None:
                callback(len(drawn), total)
        return torch.stack(drawn, dim=1).unflatten(1, (-1, self.num_levels)) if drawn else start[:, :0]

    def empty_cache(self, batch: int, capacity: int) -> Cache:
        """A static key-value cache of ``capacity`` places, for ``forward`` to fill."""
        return Cache.empty(self.layers, batch, capacity)

    def _check(self, given: Sequence[Tensor], tokens: Tensor) -> None:
        if len(given) != len(self.contexts):
            raise MelodyError(f"got {len(given)} streams that are given, expected {len(self.contexts)}")
        for number, (stream, (levels, size, _)) in enumerate(zip(given, self.contexts, strict=True), start=1):
            _check_range(f"given stream {number}", stream, len(given[0]), levels, size)
        _check_range("tokens", tokens, len(given[0]), self.num_levels, self.codebook_size)


def _flat_rows(tokens: Tensor, first: int, size: int) -> Tensor:
    """Rows of the vocabulary ``(B, frames * levels)`` of tokens ``(B, frames, levels)``, levels from ``first`` on."""
    level = torch.arange(tokens.shape[2], device=tokens.device) * size + first
    return (tokens + level).flatten(1)


def _check_range(what: str, tokens: Tensor, rows: int, levels: int, codebook_size: int) -> None:
    if tokens.ndim != 3 or tokens.is_floating_point() or len(tokens) != rows or tokens.shape[2] != levels:
        raise MelodyError(
            f"{what}: got {tokens.dtype} of shape {tuple(tokens.shape)}, "
            f"expected integers of shape ({rows}, frames, {levels})"
        )
    if tokens.numel() and not tokens.is_meta:
        low, high = (int(bound) for bound in tokens.aminmax())
        if low < 0 or high >= codebook_size:
            raise MelodyError(f"{what}: got values in [{low}, {high}], expected [0, {codebook_size - 1}]")
