"""Stages ``coarse`` and ``fine`` of the MusicLM-style system: acoustic tokens, level by level, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from melody.baselines.musiclm.preset import AcousticTraining
from melody.lm.multi_stream import MultiStream
from melody.training.lm import n_gram_losses, prefix_views
from melody.training.recipe import Recipe
from melody.training.shares import WHOLE, Share

VALIDATION_ROWS = 8


@dataclass(frozen=True)
class AcousticData:
    """Tokens of segments, a frame of ``given`` and of ``tokens`` beginning together.

    Args:
        tokens: what is learnt ``(segments, frames, levels)``.
        given: what goes before: semantic tokens for the coarse stage, coarse ones for the fine, with one frame for each
            ``frames_per_given`` of ``tokens``.
        prefixes: MuLan tokens of audio, caption, tags and further captions ``(segments, 3 or more, P)``; none for the
            fine stage.
    """

    tokens: Tensor
    given: Tensor
    prefixes: Tensor | None = None

    @property
    def frames_per_given(self) -> int:
        return self.tokens.shape[1] // self.given.shape[1]

    def crop(self, rows: Tensor, begins: Tensor, length: int, views: Tensor) -> tuple[list[Tensor], Tensor]:
        """``length`` frames of ``given`` from ``begins``, and the tokens of that time: as ``MultiStream`` takes them.

        Args:
            views: which prefix of each row.
        """
        ratio = self.frames_per_given
        times = begins[:, None] + torch.arange(length)
        given = [self.given[rows[:, None], times]]
        if self.prefixes is not None:
            given.insert(0, self.prefixes[rows, views][:, None])
        places = begins[:, None] * ratio + torch.arange(length * ratio)
        return given, self.tokens[rows[:, None], places]


class AcousticModelling(Recipe):
    """Teacher forcing on crops as long as the stage's windows; half of the steps may take more and shorter ones."""

    settings: AcousticTraining

    def __init__(
        self, part: nn.Module, settings: AcousticTraining, train: AcousticData, validation: AcousticData, rate: float
    ) -> None:
        """``rate``: frames of ``given`` a second."""
        super().__init__(part, settings)
        self.train_data, self.validation_data, self.rate = train, validation, rate

    def batch(self, step: int, share: Share = WHOLE) -> tuple[Tensor, ...]:
        """What is given (one or two streams), the tokens, and which of these are hidden."""
        generator, data = self.generator(step), self.train_data
        size, length = self._shape(generator)
        rows = torch.randint(len(data.tokens), (size,), generator=generator)
        begins = torch.randint(data.given.shape[1] - length + 1, (size,), generator=generator)
        views = torch.zeros(size, dtype=torch.int64)
        if data.prefixes is not None:
            views = prefix_views(size, data.prefixes.shape[1], self.settings.audio_share, generator)
        rates = self.settings.token_dropout * torch.rand(size, 1, 1, generator=generator)
        frames = length * data.frames_per_given
        dropped = torch.rand(size, frames, data.tokens.shape[2], generator=generator) < rates
        own = share.rows(size)
        given, tokens = data.crop(rows[own], begins[own], length, views[own])
        return *given, tokens, dropped[own]

    def _shape(self, generator: torch.Generator) -> tuple[int, int]:
        """Rows, and frames of ``given`` in each: as many tokens a step, whatever the length."""
        settings = self.settings
        window = min(round(settings.clip_s * self.rate), self.train_data.given.shape[1])
        short = bool(torch.rand((), generator=generator) < 0.5)
        times = settings.shorter_times if short else 1
        return settings.batch_size * times, max(1, window // times)

    def losses(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        *given, tokens, dropped = (tensor.to(self.device) for tensor in batch)
        hidden = dropped if self.settings.token_dropout else None
        return {"loss": self.part.loss(given, tokens, hidden)}  # type: ignore[operator]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Cross-entropy (nats a token) in held-out segments' first window, with the caption's prefix.

        Beside it stand n-grams of each level (``metrics.ngrams``): a token after the one of the same level in the frame
        before.
        """
        part, data = self.trained().eval(), self.validation_data
        assert isinstance(part, MultiStream)
        length = min(round(self.settings.clip_s * self.rate), data.given.shape[1])
        totals = torch.zeros(part.num_levels, dtype=torch.float64)
        for rows in torch.arange(len(data.tokens)).split(VALIDATION_ROWS):
            given, tokens = data.crop(rows, torch.zeros_like(rows), length, torch.ones_like(rows))
            losses = part.level_losses([stream.to(self.device) for stream in given], tokens.to(self.device))
            totals += losses.double().cpu() * len(rows)
        levels = (totals / len(data.tokens)).tolist()
        window = data.tokens[:, : length * data.frames_per_given]
        n_grams = [
            n_gram_losses(self.train_data.tokens[..., level], window[..., level], part.codebook_size)
            for level in range(part.num_levels)
        ]
        return {
            "loss": sum(levels) / len(levels),
            **{f"loss_level_{level}": value for level, value in enumerate(levels)},
            **{name: sum(losses[name] for losses in n_grams) / len(n_grams) for name in n_grams[0]},
        }
