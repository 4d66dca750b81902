"""What both codecs of tokens share: the quantiser between encoder and decoder, and the checks of what comes in."""

from __future__ import annotations

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from melody.errors import MelodyError
from melody.protocols import TokenCodec
from melody.vae.inputs import check_frames, check_waveform
from melody.vae.residual_quantizer import ResidualQuantizer


class ResidualCodec(nn.Module, TokenCodec):
    """Codec with a residual vector quantiser between encoder and decoder (SoundStream, DOI 10.1109/TASLP.2021.3129994).

    A subclass sets ``sample_rate`` and ``hop_length``, calls ``_quantize``, and implements what is abstract here.
    """

    quantizer: ResidualQuantizer

    @abstractmethod
    def analyse(self, waveform: Tensor) -> Tensor:
        """Waveform ``(B, 1, L * hop_length)`` -> vectors ``(B, L, D)``."""

    @abstractmethod
    def synthesize(self, latents: Tensor) -> Tensor:
        """Vectors ``(B, L, D)`` -> waveform ``(B, 1, L * hop_length)``."""

    def vectors(self, waveform: Tensor) -> Tensor:
        """Vectors ``(B, ceil(T / hop_length), D)`` of a waveform ``(B, 1, T)``, not quantised.

        Raises:
            MelodyError: another shape or dtype, no samples, NaN or infinity.
        """
        check_waveform(self, waveform)
        return self.analyse(F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length)))

    def encode(self, waveform: Tensor) -> Tensor:
        """Tokens ``(B, ceil(T / hop_length), num_levels)``, int64, of a waveform ``(B, 1, T)`` in [-1, 1]."""
        return self.quantizer.encode(self.vectors(waveform))

    def decode(self, tokens: Tensor) -> Tensor:
        """Waveform ``(B, 1, L * hop_length)`` of tokens ``(B, L, levels)``; the first levels alone sound coarser."""
        check_frames(self, tokens, "tokens", "(B, L, levels)", tokens.ndim == 3)
        try:
            vectors = self.quantizer.decode(tokens)
        except MelodyError as error:
            raise MelodyError(f"{type(self).__name__}: {error}") from None
        return self.synthesize(vectors)

    def reconstruct(self, waveform: Tensor, levels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of training.

        Args:
            levels: ``(B,)``, how many levels each row is decoded from; all if not given.
        Returns:
            Waveform of the input's length ``(B, 1, T)``, vectors before the quantiser ``(B, L, D)``, commitment loss.
        """
        vectors = self.vectors(waveform)
        quantized, _, commitment = self.quantizer(vectors, levels)
        return self.synthesize(quantized)[..., : waveform.shape[-1]], vectors, commitment

    def forward(self, waveform: Tensor) -> Tensor:
        """``reconstruct``'s waveform, of all levels."""
        return self.reconstruct(waveform)[0]

    def _quantize(self, num_levels: int, codebook_size: int, dim: int) -> None:
        self.num_levels, self.codebook_size = num_levels, codebook_size
        self.quantizer = ResidualQuantizer(num_levels, codebook_size, dim)
