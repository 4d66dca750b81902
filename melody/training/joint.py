"""Stage ``joint``: text and audio into one space, contrastively (MuLan, appendix B.3)."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from melody.config import JointStage
from melody.data.corpus import Corpus
from melody.errors import MelodyError
from melody.training.audio import fixed_length, random_crops
from melody.training.features import texts_of
from melody.training.recipe import Recipe
from melody.training.shares import WHOLE, Share, gathered, world_size

VALIDATION_PAIRS = 64


class Joint(Recipe):
    """Each audio is paired at random with its caption or its tags, as in the paper's data (appendix B.3)."""

    def __init__(self, part: torch.nn.Module, settings: JointStage, train: Corpus, validation: Corpus) -> None:
        _begin(part, settings, train)
        super().__init__(part, settings)
        self.train_corpus, self.validation_corpus = train, validation

    def batch(self, step: int, share: Share = WHOLE) -> tuple[list[str], Tensor]:
        generator = self.generator(step)
        samples = round(self.settings.clip_s * self.train_corpus.sample_rate)
        size = self.settings.batch_size
        waveform, indices = random_crops(self.train_corpus, size, samples, generator, share)
        choices = torch.randint(2, (len(indices),), generator=generator).tolist()
        texts = [texts_of(self.train_corpus, index)[choice] for index, choice in zip(indices, choices, strict=True)]
        return texts[share.rows(size)], waveform

    def losses(self, batch: tuple[list[str], Tensor]) -> dict[str, Tensor]:
        texts, waveform = batch
        if world_size() == 1:
            return {"loss": self.part.loss(texts, waveform.to(self.device))}  # type: ignore[operator]
        return {"loss": self._loss_over_processes(texts, waveform.to(self.device))}

    def _loss_over_processes(self, texts: list[str], waveform: Tensor) -> Tensor:
        """Contrast with the rows of all processes, each of which has embedded its own."""
        text = gathered(self.part.embed_text(texts))  # type: ignore[operator]
        audio = gathered(self.part.embed_audio(waveform))  # type: ignore[operator]
        labels = gathered(torch.tensor([_number(row) for row in texts], device=self.device)).tolist()
        loss: Tensor = self.part.contrast(text, audio, labels)  # type: ignore[operator]
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Retrieval of the right caption among all captions of held-out clips."""
        part = self.trained().eval()
        corpus = self.validation_corpus
        count = min(VALIDATION_PAIRS, len(corpus))
        samples = round(self.settings.clip_s * corpus.sample_rate)
        waveform = torch.stack([fixed_length(corpus[i].waveform(corpus.sample_rate), samples) for i in range(count)])
        audio = torch.cat([part.embed_audio(chunk[:, None].to(self.device)) for chunk in waveform.split(16)])  # type: ignore[operator]
        text = part.embed_text([corpus[i].text for i in range(count)])  # type: ignore[operator]
        similarity = audio @ text.T
        rank = (similarity > similarity.diagonal()[:, None]).sum(dim=1)
        figures = {
            "pairs": float(count),
            "recall_at_1": float((rank < 1).float().mean()),
            "recall_at_5": float((rank < 5).float().mean()),
            "cosine_right": float(similarity.diagonal().mean()),
        }
        if count > 1:
            figures["cosine_others"] = float((similarity.sum() - similarity.trace()) / (count * (count - 1)))
        return figures


def _begin(part: torch.nn.Module, settings: JointStage, train: Corpus) -> None:
    """Public towers where the preset names them, and a vocabulary of the corpus where it names none of a text."""
    for source, method in ((settings.audio_weights, "begin_music"), (settings.text_weights, "begin_text")):
        if source is None:
            continue
        if not hasattr(part, method):
            raise MelodyError(f"{type(part).__name__} cannot begin from {source}: it has no {method}; leave it out")
        getattr(part, method)(source)
    if settings.text_weights is None:
        part.fit_vocabulary([text for index in range(len(train)) for text in texts_of(train, index)])  # type: ignore[operator]


def _number(text: str) -> int:
    """The same 63-bit number for texts that are the same but for case and outer spaces."""
    return int.from_bytes(hashlib.sha256(text.strip().lower().encode()).digest()[:8], "big") >> 1
