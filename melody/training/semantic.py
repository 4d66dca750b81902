"""Stage ``semantic``: a self-supervised encoder, then k-means over its features (appendix B.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.config import Stage
from melody.data.corpus import Corpus
from melody.training.audio import random_crops, segment_batch, segments
from melody.training.recipe import Recipe, mean_over_rows
from melody.training.shares import WHOLE, Share

CODEBOOK_FRAMES = 60_000
VALIDATION_CLIPS = 64


class Semantic(Recipe):
    def __init__(self, part: torch.nn.Module, settings: Stage, train: Corpus, validation: Corpus) -> None:
        super().__init__(part, settings)
        self.train_corpus, self.validation_corpus = train, validation

    def batch(self, step: int, share: Share = WHOLE) -> Tensor:
        samples = round(self.settings.clip_s * self.train_corpus.sample_rate)
        size = self.settings.batch_size
        return random_crops(self.train_corpus, size, samples, self.generator(step), share)[0]

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        step = int(self.completed)
        return {"loss": self.part.self_supervised_loss(batch.to(self.device), step=step)}  # type: ignore[operator]

    @torch.no_grad()
    def fit_codebook(self) -> None:
        """k-means over features of clips drawn by the seed."""
        part = self.trained().eval()
        corpus, seed = self.train_corpus, self.settings.seed
        samples = round(self.settings.clip_s * corpus.sample_rate)
        frames_each = round(self.settings.clip_s * part.token_rate)  # type: ignore[operator, arg-type]
        places = segments(corpus, samples)
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed)).tolist()
        chosen = [places[i] for i in order[: max(1, CODEBOOK_FRAMES // frames_each)]]
        features = [
            part.features(segment_batch(corpus, chosen[begin : begin + 16], samples).to(self.device)).flatten(0, 1)  # type: ignore[operator]
            for begin in range(0, len(chosen), 16)
        ]
        part.fit_codebook(torch.cat(features), seed)  # type: ignore[operator]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss on held-out clips, and how evenly the tokens are used."""
        part, batches = self.trained().eval(), self._held_out()
        tokens = torch.cat([part.tokenize(batch) for batch in batches])  # type: ignore[operator]
        share = torch.bincount(tokens.flatten(), minlength=part.codebook_size).double()  # type: ignore[arg-type]
        share = share[share > 0] / share.sum()
        return {
            **self.interim(),
            "codebook_perplexity": float(torch.exp(-(share * share.log()).sum())),
            "token_change_rate": float((tokens[:, 1:] != tokens[:, :-1]).float().mean()),
        }

    @torch.no_grad()
    def interim(self) -> dict[str, float]:
        """Loss on held-out clips alone: the tokens need the codebook, which is fitted at the end."""
        part = self.trained().eval()
        torch.manual_seed(self.settings.seed)
        batches = self._held_out()
        step = int(self.completed)
        losses = [part.self_supervised_loss(batch, step=step) for batch in batches]  # type: ignore[operator]
        return {"loss": mean_over_rows(losses, batches)}

    def _held_out(self) -> list[Tensor]:
        corpus = self.validation_corpus
        samples = round(self.settings.clip_s * corpus.sample_rate)
        places = segments(corpus, samples)[:VALIDATION_CLIPS]
        return [segment_batch(corpus, places[b : b + 16], samples).to(self.device) for b in range(0, len(places), 16)]
