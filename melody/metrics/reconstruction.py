"""``si-sdr``, ``mr-stft`` and ``log-mel``: how near a codec's sound is to the original, three ways.

- *SI-SDR* in dB, higher is better: of the samples as they are, no mean subtracted (Le Roux et al. 2019, arXiv
  1811.02508). It falls with any change of phase, which the ear may not hear.
- *MR-STFT distance*, lower is better, no unit: spectral convergence plus mean absolute difference of natural-log
  magnitudes, averaged over the resolutions 1024/600/120, 2048/1200/240 and 512/240/50 (FFT, Hann window, hop), each
  magnitude at least 1e-4 (Yamamoto et al. 2020, arXiv 1910.11480; auraloss's ``MultiResolutionSTFTLoss``, a clip at a
  time).
- *Log-mel distance* in dB, lower is better: mean absolute difference of log powers in 80 HTK mel bands of peak 1 from
  0 Hz to half the sample rate (FFT 1024, Hann, hop 256), each power at least −80 dB of a full-scale sine's. Ours.

Every clip counts one. Silence is refused where a distance to it or of it means nothing: as the target of SI-SDR and
MR-STFT, and as the clip of SI-SDR, which would have 0 dB. Version 1.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import SampleRate
from melody.checks import check_audible, check_finite, check_same_shape
from melody.dsp.mel import mel_filterbank
from melody.dsp.spectrum import magnitudes
from melody.errors import MelodyError
from melody.metrics.running_mean import RunningMean
from melody.protocols import InputKind
from melody.registry import metrics

RESOLUTIONS = ((1024, 600, 120), (2048, 1200, 240), (512, 240, 50))
MAGNITUDE_FLOOR = 1e-4  # auraloss's 1e-8, of powers
MEL_BANDS, MEL_FFT_SIZE, MEL_HOP = 80, 1024, 256
MEL_FLOOR = 1e-8
LEAST_AMPLITUDE = MAGNITUDE_FLOOR / min(window for _, window, _ in RESOLUTIONS)
"""Below it every magnitude is at the floor: a thousandth of a 16-bit file's smallest step."""
SHORTEST = max(size for size, _, _ in RESOLUTIONS) // 2 + 1
"""Samples that the largest transform needs to mirror a clip at its ends."""


def si_sdr(preds: Tensor, target: Tensor) -> Tensor:
    """SI-SDR in dB: two ``(B, T)`` -> ``(B,)``, float64.

    Raises:
        MelodyError: silence as the target or as the clip: their ratio is that of nothing to nothing.


    >>> si_sdr(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])).tolist()
    [0.0]
    """
    _check(preds, target, "si-sdr")
    estimate, truth = preds.detach().to(torch.float64), target.detach().to(torch.float64)
    check_audible(estimate, "si-sdr: the clip")
    check_audible(truth, "si-sdr: the target")
    energy = truth.square().sum(dim=1, keepdim=True)
    signal = (estimate * truth).sum(dim=1, keepdim=True) / energy * truth
    epsilon = torch.finfo(torch.float64).eps
    ratio = (signal.square().sum(dim=1) + epsilon) / ((signal - estimate).square().sum(dim=1) + epsilon)
    return 10 * torch.log10(ratio)


def mr_stft_distance(preds: Tensor, target: Tensor) -> Tensor:
    """MR-STFT distance: two ``(B, T)`` with T >= 1025 -> ``(B,)``.

    Raises:
        MelodyError: silence as the target, by whose magnitude the distance is divided.
    """
    _check(preds, target, "mr-stft", SHORTEST)
    check_audible(target, "mr-stft: the target", LEAST_AMPLITUDE)
    distances = []
    for size, window, hop in RESOLUTIONS:
        taper = torch.hann_window(window, device=preds.device)
        ours, theirs = (
            torch.stft(x.float(), size, hop, window, taper, return_complex=True).abs().clamp(min=MAGNITUDE_FLOOR)
            for x in (preds, target)
        )
        convergence = torch.linalg.vector_norm(theirs - ours, dim=(1, 2)) / torch.linalg.vector_norm(theirs, dim=(1, 2))
        distances.append(convergence + (theirs.log() - ours.log()).abs().mean(dim=(1, 2)))
    return torch.stack(distances).mean(dim=0)


def log_mel_distance(preds: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Log-mel distance in dB: two ``(B, T)`` with T >= 513 -> ``(B,)``."""
    _check(preds, target, "log-mel", MEL_FFT_SIZE // 2 + 1)
    ours, theirs = (_mel_decibels(x.float(), sample_rate) for x in (preds, target))
    return (ours - theirs).abs().mean(dim=(1, 2))


class PairMetric(RunningMean):
    """Mean over clips of a number that each has with its original."""

    input_kind: ClassVar[InputKind] = "waveform_pairs"

    @abstractmethod
    def of_clips(self, preds: Tensor, target: Tensor) -> Tensor:
        """Two ``(B, T)`` -> ``(B,)``."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add clips and their originals, mono, two ``(B, 1, T)``."""
        for waveform in (preds, target):
            if waveform.ndim != 3 or waveform.shape[1] != 1:
                name = type(self).__name__
                raise MelodyError(f"{name}: clips have shape {tuple(waveform.shape)}; expected mono (B, 1, T)")
        self.add(self.of_clips(preds[:, 0], target[:, 0]))


@metrics.register("si-sdr")
class SISDR(PairMetric):
    """Scale-invariant signal-to-distortion ratio of samples, mean over clips (higher is better)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "targets shuffled"})
    unit: ClassVar[str] = "dB"

    def of_clips(self, preds: Tensor, target: Tensor) -> Tensor:
        return si_sdr(preds, target)


@metrics.register("mr-stft")
class MRSTFTDistance(PairMetric):
    """Multi-resolution STFT distance to the original, mean over clips (lower is better)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "targets shuffled"})

    def of_clips(self, preds: Tensor, target: Tensor) -> Tensor:
        return mr_stft_distance(preds, target)


@metrics.register("log-mel")
class LogMelDistance(PairMetric):
    """Log-mel distance to the original, mean over clips (lower is better)."""

    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "targets shuffled"})
    unit: ClassVar[str] = "dB"

    def __init__(self, sample_rate: SampleRate = 24_000) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def of_clips(self, preds: Tensor, target: Tensor) -> Tensor:
        return log_mel_distance(preds, target, self.sample_rate)


def _mel_decibels(waveform: Tensor, sample_rate: int) -> Tensor:
    power = magnitudes(waveform, MEL_FFT_SIZE, MEL_HOP, centred=True).square()
    return 10 * torch.log10((_bands(sample_rate).to(waveform.device) @ power).clamp(min=MEL_FLOOR))


@lru_cache(maxsize=4)
def _bands(sample_rate: int) -> Tensor:
    return mel_filterbank(MEL_BANDS, MEL_FFT_SIZE, sample_rate, 0.0, sample_rate / 2)


def _check(preds: Tensor, target: Tensor, name: str, shortest: int = 1) -> None:
    check_same_shape(preds, target, name)
    if preds.ndim != 2:
        raise MelodyError(f"{name}: got clips of shape {tuple(preds.shape)}; expected (B, T)")
    if preds.shape[1] < shortest:
        raise MelodyError(f"{name}: got clips of {preds.shape[1]} samples; expected at least {shortest}")
    check_finite(preds, f"{name}: preds")
    check_finite(target, f"{name}: target")
