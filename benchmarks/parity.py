"""What we compute beside what the public tools compute from the same input: ``python benchmarks/parity.py``.

Each row is one number by us and by another's package, on seeded synthetic input, and the relative difference. Tests
hold the same pairs to their tolerances; here the differences themselves are seen. Beats, chroma and keys, where two
methods agree only in part, are in ``tests/metrics/test_proxies_against_librosa.py`` and ``docs/metrics.md``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # laion-clap asks the hub for tokenizers on import

import auraloss
import numpy as np
import torch
from frechet_audio_distance import FrechetAudioDistance
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, scale_invariant_signal_noise_ratio
from torchmetrics.image.fid import FrechetInceptionDistance

from melody.metrics.frechet import Statistics, frechet_distance_of
from melody.metrics.reconstruction import mr_stft_distance, si_sdr
from melody.metrics.si_snr import si_snr

Pair = tuple[float, float]


class Itself(torch.nn.Module):
    """The feature of torchmetrics' FID: the embeddings as they are."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(B, num_features)`` as it comes."""
        return embeddings


def draw(*shape: int, seed: int, shift: float = 0.0) -> Tensor:
    """Seeded standard normal numbers, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def frechet(n: int, dimension: int) -> Pair:
    """By us, and by frechet-audio-distance's function on the same moments."""
    a, b = draw(n, dimension, seed=0), draw(n + 7, dimension, seed=1, shift=0.3)
    moments = [part for x in (a, b) for part in (x.mean(0).numpy(), np.cov(x.numpy(), rowvar=False))]
    theirs = FrechetAudioDistance.calculate_frechet_distance(None, *moments)
    return frechet_distance_of(Statistics.of(a), Statistics.of(b)), float(theirs)


def fid() -> Pair:
    """By us, and by torchmetrics' class with a feature of its own."""
    a, b = draw(300, 64, seed=2), draw(400, 64, seed=3, shift=0.3)
    theirs = FrechetInceptionDistance(feature=Itself(64))
    theirs.update(a, real=False)
    theirs.update(b, real=True)
    return frechet_distance_of(Statistics.of(a), Statistics.of(b)), float(theirs.compute())


def waveforms() -> tuple[Tensor, Tensor]:
    """One second of noise, and the same with noise added, ``(1, T)``."""
    target = 0.3 * draw(1, 24_000, seed=4)
    return target + 0.1 * draw(1, 24_000, seed=5), target


ROWS: list[tuple[str, str, Callable[[], Pair]]] = [
    ("Fréchet distance, 200 x 16", "frechet-audio-distance", lambda: frechet(200, 16)),
    ("Fréchet distance, 1,000 x 128", "frechet-audio-distance", lambda: frechet(1000, 128)),
    ("Fréchet distance, 1,500 x 512", "frechet-audio-distance", lambda: frechet(1500, 512)),
    ("Fréchet distance, 300 x 64", "torchmetrics", fid),
    (
        "SI-SNR, dB",
        "torchmetrics",
        lambda: (float(si_snr(*waveforms())[0]), float(scale_invariant_signal_noise_ratio(*waveforms())[0])),
    ),
    (
        "SI-SDR, dB",
        "torchmetrics",
        lambda: (float(si_sdr(*waveforms())[0]), float(scale_invariant_signal_distortion_ratio(*waveforms())[0])),
    ),
    (
        "MR-STFT",
        "auraloss",
        lambda: (
            float(mr_stft_distance(*(x.float() for x in waveforms()))[0]),
            float(auraloss.freq.MultiResolutionSTFTLoss()(*(x.float()[None] for x in waveforms()))),
        ),
    ),
]


def main() -> None:
    """Print the table."""
    table = Table("number", "other", "version", "by us", "by the other", "relative difference")
    for name, package, pair in ROWS:
        ours, theirs = pair()
        table.add_row(
            name, package, version(package), f"{ours:.9g}", f"{theirs:.9g}", f"{abs(ours - theirs) / abs(theirs):.1e}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
