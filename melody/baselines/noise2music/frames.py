"""What the three stages make, all at one frame rate: a log-mel spectrogram, and a waveform in two bands.

The waveform is taken as frames of a modified discrete cosine transform (MDCT): orthonormal, so that Gaussian noise on
the coefficients is Gaussian noise on the samples, and a network of one dimension sees all samples of a frame as
channels. The lower coefficients alone are a waveform of a lower rate: what the cascader makes. The super-resolution
makes the upper ones. Both are divided by the spectral envelope that the spectrogram tells, so that a network has to
find what a vocoder lacks, the fine structure, at unit scale; and their magnitudes are compressed by a power, which
makes small errors between partials smaller still. All of this is ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from melody.dsp.mel import LOG_FLOOR, LogMel
from melody.errors import MelodyError

ENVELOPE_FLOOR = 1e-4
"""Smallest magnitude of the envelope, 80 dB below a sinusoid of amplitude 1 (ours)."""


class Frames(nn.Module):
    """Waveform to spectrogram and MDCT frames, and back; nothing here is learned.

    Shapes: B batch, T samples, L frames of ``hop_length`` samples, M mel bands, N = ``hop_length`` coefficients, of
    which ``lower`` are the cascader's.

    Args:
        sample_rate: Hz; of the waveform that the last stage makes.
        hop_length: samples a frame, and so coefficients a frame.
        middle_rate: Hz; of the waveform that the lower coefficients are.
        n_fft: of the spectrogram.
        power: magnitudes of coefficients are raised to it, in (0, 1].
    """

    basis: Tensor
    bands_to_bins: Tensor

    def __init__(
        self, sample_rate: int, hop_length: int, middle_rate: int, num_mels: int, n_fft: int, power: float
    ) -> None:
        super().__init__()
        if not 0 < middle_rate < sample_rate or hop_length * middle_rate % sample_rate:
            raise MelodyError(
                f"middle_rate {middle_rate} Hz does not fit {sample_rate} Hz with {hop_length} samples a frame: "
                "expected a lower rate with a whole number of samples a frame"
            )
        self.sample_rate, self.hop_length, self.num_mels, self.power = sample_rate, hop_length, num_mels, power
        self.lower = hop_length * middle_rate // sample_rate
        self.log_mel = LogMel(sample_rate, n_fft, hop_length, num_mels)
        self.register_buffer("basis", mdct_basis(hop_length), persistent=False)
        self.register_buffer("bands_to_bins", self._interpolation(n_fft), persistent=False)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """``(B, 1, T)``, T a multiple of the hop -> natural-log mel magnitudes ``(B, L, M)``."""
        return self.log_mel(waveform[:, 0])  # type: ignore[no-any-return]

    def excitation(self, waveform: Tensor, spectrogram: Tensor) -> Tensor:
        """``(B, 1, (L + 1) * hop)``, half a hop more at both ends, and ``(B, L, M)`` -> coefficients ``(B, L, N)``."""
        windows = waveform[:, 0].unfold(1, 2 * self.hop_length, self.hop_length)  # (B, L, 2N)
        scaled = windows @ self.basis / self.envelope(spectrogram)
        return scaled.sign() * scaled.abs() ** self.power

    def waveform(self, excitation: Tensor, spectrogram: Tensor) -> Tensor:
        """The inverse of ``excitation``: ``(B, L, N)``, ``(B, L, M)`` -> ``(B, 1, L * hop)``.

        Half a hop at either end overlaps with no other frame and is not rebuilt exactly.
        """
        scaled = excitation.sign() * excitation.abs() ** (1 / self.power)
        windows = (scaled * self.envelope(spectrogram)) @ self.basis.T  # (B, L, 2N)
        first, second = windows.chunk(2, dim=2)  # (B, L, N) each
        zeros = first.new_zeros(len(first), 1, self.hop_length)
        summed = torch.cat([first, zeros], dim=1) + torch.cat([zeros, second], dim=1)  # (B, L + 1, N)
        half = self.hop_length // 2
        return summed.flatten(1)[:, None, half : half - self.hop_length]

    def envelope(self, spectrogram: Tensor) -> Tensor:
        """Magnitude at every coefficient, between the centres of the bands: ``(B, L, M) -> (B, L, N)``."""
        magnitudes = (spectrogram.exp() - LOG_FLOOR).clamp(min=ENVELOPE_FLOOR)
        return magnitudes @ self.bands_to_bins

    def _interpolation(self, n_fft: int) -> Tensor:
        """Weights ``(M, N)`` of linear interpolation from the bands' centres to the coefficients' frequencies."""
        nyquist = self.sample_rate / 2
        bins = torch.linspace(0, nyquist, n_fft // 2 + 1, device=self.log_mel.filters.device)
        centres = bins @ self.log_mel.filters  # filters sum to 1
        frequencies = (torch.arange(self.hop_length, device=bins.device) + 0.5) * nyquist / self.hop_length
        above = torch.searchsorted(centres, frequencies).clamp(1, self.num_mels - 1)
        left, right = centres[above - 1], centres[above]
        share = ((frequencies - left) / (right - left)).clamp(0, 1)
        bands = torch.arange(self.num_mels, device=bins.device)[:, None]
        return (bands == above - 1) * (1 - share) + (bands == above) * share


def mdct_basis(hop_length: int) -> Tensor:
    """Windowed basis ``(2N, N)`` of the MDCT with a sine window (Princen and Bradley, DOI 10.1109/TASSP.1986.1164954).

    With half-overlapping windows it is orthonormal: samples times basis are coefficients, coefficients times its
    transpose, overlapped and added, are the samples.
    """
    n = torch.arange(2 * hop_length, dtype=torch.float64)[:, None] + 0.5
    k = torch.arange(hop_length, dtype=torch.float64) + 0.5
    window = torch.sin(math.pi * n / (2 * hop_length))
    cosine = torch.cos(math.pi / hop_length * (n + hop_length / 2) * k)
    return (window * cosine * math.sqrt(2 / hop_length)).float()
