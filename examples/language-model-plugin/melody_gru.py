"""A recurrent network in the place of the semantic language model."""

from __future__ import annotations

import torch
from torch import nn

from melody.lm.decoding import draw, draw_uniforms, guide, token_probabilities
from melody.protocols import LanguageModel


class Gru(nn.Module, LanguageModel):
    """GRU from MuLan tokens to semantic tokens; one pass a token."""

    def __init__(
        self,
        num_prefix_tokens: int = 12,
        prefix_codebook_size: int = 1024,
        codebook_size: int = 1024,
        hidden_size: int = 256,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        self.num_prefix_tokens, self.codebook_size = num_prefix_tokens, codebook_size
        self.prefix_codebook_size = prefix_codebook_size
        self.first_semantic_row = num_prefix_tokens * prefix_codebook_size
        self.hidden_row = self.first_semantic_row + codebook_size  # in the place of a token that is hidden
        self.embedding = nn.Embedding(self.hidden_row + 1, hidden_size)
        self.network = nn.GRU(hidden_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, codebook_size)

    def forward(self, rows, state=None):
        """Rows of the vocabulary ``(B, N)`` -> logits of what follows each ``(B, N, V)``, and the state after them."""
        outputs, state = self.network(self.embedding(rows), state)
        return self.head(outputs), state

    def loss(self, prefix, semantic_tokens, dropped=None):
        rows = self._rows(prefix, semantic_tokens)
        if dropped is not None:
            rows = rows.masked_fill(dropped, self.hidden_row)
        logits = self(rows[:, :-1])[0][:, self.num_prefix_tokens - 1 :]  # (B, N, V)
        return nn.functional.cross_entropy(logits.flatten(0, 1), semantic_tokens.flatten())

    @torch.no_grad()
    def generate(
        self,
        prefix,
        num_tokens,
        *,
        semantic_tokens=None,
        temperature=1.0,
        top_k=None,
        top_p=None,
        guidance_scale=1.0,
        generator=None,
        callback=None,
    ):
        given = prefix.new_zeros(len(prefix), 0) if semantic_tokens is None else semantic_tokens
        rows, state, drawn = self._rows(prefix, given), None, [given]
        if guidance_scale != 1:  # the same rows again, without their prefix
            rows = torch.cat([rows, rows])
            rows[len(prefix) :, : self.num_prefix_tokens] = self.hidden_row
        for number in range(num_tokens):
            logits, state = self(rows, state)
            logits = logits[:, -1] if guidance_scale == 1 else guide(logits[:, -1], guidance_scale)
            probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            tokens = draw(probabilities, draw_uniforms(len(prefix), generator, rows.device)[:, 0])  # (B,)
            drawn.append(tokens[:, None])
            rows = tokens.repeat(len(rows) // len(tokens))[:, None] + self.first_semantic_row
            if callback is not None:
                callback(number + 1, num_tokens)
        return torch.cat(drawn, dim=1)[:, given.shape[1] :]

    def _rows(self, prefix, semantic_tokens):
        levels = torch.arange(self.num_prefix_tokens, device=prefix.device) * self.prefix_codebook_size
        return torch.cat([prefix + levels, semantic_tokens + self.first_semantic_row], dim=1)
