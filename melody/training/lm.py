"""Stage ``lm``: semantic tokens after MuLan tokens, on segments of 250 tokens (main text: 10 s)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melody.config import LanguageModelStage
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
        """Cross-entropy a token (nats) with the caption's prefix, beside a unigram model of the training tokens."""
        part = self.trained().eval()
        data = self.validation_data
        batches = data.tokens.split(32)
        losses = [
            part.loss(prefix.to(self.device), tokens.to(self.device))  # type: ignore[operator]
            for prefix, tokens in zip(data.prefixes[:, 1].split(32), batches, strict=True)
        ]
        return {
            "loss": mean_over_rows(losses, batches),
            "unigram_loss": unigram_loss(self.train_data.tokens, data.tokens, part.codebook_size),  # type: ignore[arg-type]
            "bigram_loss": bigram_loss(self.train_data.tokens, data.tokens, part.codebook_size),  # type: ignore[arg-type]
        }


def prefix_views(size: int, views: int, audio_share: float, generator: torch.Generator) -> Tensor:
    """Which of a segment's prefixes each row gets ``(size,)``: 0, the audio's, in its share; else any text's alike."""
    drawn = torch.randint(1, views, (size,), generator=generator)
    drawn[torch.rand(size, generator=generator) < audio_share] = 0
    return drawn


def unigram_loss(train: Tensor, held_out: Tensor, size: int) -> float:
    """Cross-entropy a token (nats) of held-out tokens by the counts of the training tokens, of any shape."""
    counts = torch.bincount(train.flatten(), minlength=size).double() + 1
    return float(-(counts / counts.sum()).log()[held_out].mean())


def bigram_loss(train: Tensor, held_out: Tensor, size: int) -> float:
    """The same of tokens ``(segments, N)`` by the one before; counts smoothed by a tenth, first tokens left out."""
    pairs = (train[:, :-1] * size + train[:, 1:]).flatten()
    counts = torch.bincount(pairs, minlength=size * size).double().view(size, size) + 0.1
    log_probability = (counts / counts.sum(dim=1, keepdim=True)).log()
    return float(-log_probability[held_out[:, :-1], held_out[:, 1:]].mean())
