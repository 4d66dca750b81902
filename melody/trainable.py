"""What each stage of ``melody train`` asks of its component, beside what every component of the kind has.

A component has these methods by having them: no class is inherited. They are looked at before anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TrainableJointEmbedder(Protocol):
    """What stage ``joint`` asks of a joint embedder; it is a ``torch.nn.Module`` too."""

    def fit_vocabulary(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary of all captions and tags of the corpus, before the first step and once.

        Not called where ``training.joint.text_weights`` names a public model, whose vocabulary comes with it.
        """

    def loss(self, texts: Sequence[str], waveform: Tensor) -> Tensor:
        """Loss of ``B`` texts with the waveforms ``(B, 1, T)`` that they are of: a scalar."""

    def contrast(self, text: Tensor, audio: Tensor, labels: Sequence[int]) -> Tensor:
        """The same of embeddings ``(B, E)`` of all processes; rows of one label are of one text."""


class PublicTowers(Protocol):
    """What stage ``joint`` asks beside where its settings name public models."""

    def begin_music(self, source: str) -> None:
        """Take over the weights of ``training.joint.audio_weights``: a folder or a hub id."""

    def begin_text(self, source: str) -> None:
        """Take over weights and vocabulary of ``training.joint.text_weights``: a folder or a hub id."""


class TrainableSemanticTokenizer(Protocol):
    """What stage ``semantic`` asks of a tokenizer; it is a ``torch.nn.Module`` too."""

    def self_supervised_loss(self, waveform: Tensor, step: int) -> Tensor:
        """Loss of waveforms ``(B, 1, T)`` at a step, which random masks may hang on: a scalar."""

    def features(self, waveform: Tensor) -> Tensor:
        """Waveforms ``(B, 1, T)`` -> what tokens are made of, one vector a token, ``(B, N, F)``."""

    def fit_codebook(self, features: Tensor, seed: int) -> None:
        """Make the codebook of features ``(M, F)`` of the training clips, at the end of the stage."""


class TrainableLanguageModel(Protocol):
    """What stage ``lm`` asks of a language model; it is a ``torch.nn.Module`` too."""

    def loss(self, prefix: Tensor, semantic_tokens: Tensor, dropped: Tensor | None = None) -> Tensor:
        """As ``LanguageModel.loss``; it must use ``dropped`` where ``token_dropout`` or ``prefix_dropout`` is set."""


class TrainableCodec(Protocol):
    """What stage ``vae`` asks of a codec; it is a ``torch.nn.Module`` too."""

    def reconstruct(self, waveform: Tensor, *, noise: Tensor, mapped: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Waveform ``(B, 1, T)`` and noise ``(B, L, D)`` -> output ``(B, 1, T)``, mean and log-variance ``(B, L, D)``.

        The latents' posterior is sampled by the noise; if ``mapped``, the sample is clamped as latents are. A codec
        without a posterior gives its latents and zeros, whose KL to a standard normal is then a penalty on their size.
        """


class TrainableDenoiser(Protocol):
    """What stage ``dpd`` asks of a denoiser; it is a ``torch.nn.Module`` too."""

    def forward(self, latents: Tensor, angle: Tensor, condition: Any, unconditional: Tensor | None = None) -> Tensor:
        """As ``Denoiser.forward``; it must use ``unconditional`` where ``guidance_dropout`` is set."""
