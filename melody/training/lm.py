"""Stage ``lm``: semantic tokens after MuLan tokens, on segments of 250 tokens (main text: 10 s)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melody.config import LanguageModelStage
from melody.metrics.ngrams import bigram_log_probabilities, bigram_loss, unigram_log_probabilities, unigram_loss
from melody.training.recipe import Recipe, mean_over_rows
from melody.training.shares import WHOLE, Share


@dataclass(frozen=True)
class TokenData:
    """``prefixes`` ``(segments, 3 or more, P)``: MuLan tokens of audio, caption, tags and further captions;
    ``tokens`` ``(segments, N)``.
    """

    prefixes: Tensor
    tokens: Tensor


class LanguageModelling(Recipe):
    """The prefix comes from the audio, or in the share that the preset says from one of its texts, at random.

    The paper relies on MuLan's shared space; ours is small, so the demo trains on texts' tokens too. Many wordings keep
    a prefix from naming one clip, which would be learnt by heart.
    """

    settings: LanguageModelStage

    def __init__(
        self, part: torch.nn.Module, settings: LanguageModelStage, train: TokenData, validation: TokenData
    ) -> None:
        super().__init__(part, settings)
        self.train_data, self.validation_data = train, validation

    def batch(self, step: int, share: Share = WHOLE) -> tuple[Tensor, ...]:
        generator = self.generator(step)
        data, size = self.train_data, self.settings.batch_size
        rows = torch.randint(len(data.tokens), (size,), generator=generator)
        views = prefix_views(size, data.prefixes.shape[1], self.settings.audio_share, generator)
        rows, views = rows[share.rows(size)], views[share.rows(size)]
        return data.prefixes[rows, views], data.tokens[rows], *self._dropped(size, share, generator)

    def _dropped(self, size: int, share: Share, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Which tokens are hidden, ``(rows, P + N)``; nothing if none ever are, which any language model takes."""
        settings, data = self.settings, self.train_data
        if not settings.token_dropout and not settings.prefix_dropout:
            return ()
        rate = settings.token_dropout * torch.rand(size, 1, generator=generator)
        tokens = torch.rand(size, data.tokens.shape[1], generator=generator) < rate
        prefix = torch.rand(size, 1, generator=generator) < settings.prefix_dropout
        dropped = torch.cat([prefix.expand(-1, data.prefixes.shape[2]), tokens], dim=1)
        return (dropped[share.rows(size)],)

    def losses(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": self.part.loss(*(tensor.to(self.device) for tensor in batch))}  # type: ignore[operator]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Cross-entropy a token (nats) with the caption's prefix, beside those of ``metrics.ngrams``."""
        part = self.trained().eval()
        data = self.validation_data
        batches = data.tokens.split(32)
        losses = [
            part.loss(prefix.to(self.device), tokens.to(self.device))  # type: ignore[operator]
            for prefix, tokens in zip(data.prefixes[:, 1].split(32), batches, strict=True)
        ]
        return {
            "loss": mean_over_rows(losses, batches),
            **n_gram_losses(self.train_data.tokens, data.tokens, part.codebook_size),  # type: ignore[arg-type]
        }


def prefix_views(size: int, views: int, audio_share: float, generator: torch.Generator) -> Tensor:
    """Which of a segment's prefixes each row gets ``(size,)``: 0, the audio's, in its share; else any text's alike."""
    drawn = torch.randint(1, views, (size,), generator=generator)
    drawn[torch.rand(size, generator=generator) < audio_share] = 0
    return drawn


def n_gram_losses(train: Tensor, held_out: Tensor, size: int) -> dict[str, float]:
    """Cross-entropies a token (nats) of held-out tokens ``(segments, N)`` by n-grams of the training tokens."""
    unigram, bigram = unigram_log_probabilities(train, size), bigram_log_probabilities(train, size)
    return {
        "unigram_loss": float(unigram_loss(unigram, held_out).mean()),
        "bigram_loss": float(bigram_loss(bigram, held_out).mean()),
    }
