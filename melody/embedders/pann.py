"""PANN's CNN14 (Kong et al. 2020, arXiv 1912.10211): embeddings, and the 527 classes of AudioSet, by its front end.

Definition, version 1. ``pann`` is the network at 32 kHz (Hann 1,024, hop 320, 50 to 14,000 Hz), ``pann-16k`` that at
16 kHz (Hann 512, hop 160, 50 to 8,000 Hz). Centred frames, padded by reflection; powers; 64 bands on Slaney's mel
scale with Slaney's normalisation, or the matrix that the checkpoint brings; 10 log10(max(power, 1e-10)); a batch norm
over bands; six blocks of two 3×3 convolutions (64 to 2,048 channels), 2×2 means after the first five; mean over
bands, then maximum plus mean over time; one layer of 2,048 with a ReLU, which is the embedding; 527 logits, of which
the published labels are the sigmoids. At 32 kHz, 80,753,615 parameters.

Windows of 10 s side by side, the length it was trained on; the last one moved back so that it ends with the clip; a
shorter clip is padded with zeros, as its training clips were (ours: the published program takes a file as one window).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.artifacts.files import file_hash
from melody.artifacts.weights import read_foreign
from melody.checks import check_clip
from melody.conditioning.windows import cut_windows
from melody.devices import device_of
from melody.embedders.checkpoints import Published, as_float32, filled, weights_file
from melody.errors import MelodyError
from melody.protocols import AudioEmbedder, AudioTagger
from melody.registry import audio_embedders, audio_taggers

NUM_BANDS = 64
LOWEST_HZ = 50.0
POWER_FLOOR = 1e-10
WIDTHS = (64, 128, 256, 512, 1_024, 2_048)
NUM_CLASSES = 527
WINDOW_S = 10.0
WINDOWS_AT_ONCE = 4
MEL_MATRIX = "logmel_extractor.melW"
FRONT_END = ("spectrogram_extractor.", "logmel_extractor.")
"""Tensors of the checkpoints that are no weights: a Fourier matrix and the bands."""
SOURCE = "https://zenodo.org/record/3987831"


@dataclass(frozen=True)
class Variant:
    """One of the published rates."""

    published: Published
    sample_rate: int
    fft_size: int
    hop: int
    highest_hz: float


CNN14_32K = Variant(
    Published("pann", ("Cnn14.safetensors", "Cnn14_mAP%3D0.431.pth", "Cnn14_mAP=0.431.pth"), SOURCE),
    32_000, 1_024, 320, 14_000.0,
)  # fmt: skip
CNN14_16K = Variant(
    Published("pann-16k", ("Cnn14_16k.safetensors", "Cnn14_16k_mAP%3D0.438.pth", "Cnn14_16k_mAP=0.438.pth"), SOURCE),
    16_000, 512, 160, 8_000.0,
)  # fmt: skip


@cache
def class_names() -> tuple[str, ...]:
    """AudioSet's 527 classes in the order of its published index (Gemmeke et al. 2017, CC BY 4.0)."""
    return tuple(Path(__file__).with_name("audioset_classes.txt").read_text(encoding="utf-8").splitlines())


def mel_matrix(variant: Variant) -> Tensor:
    """Slaney's bands ``(fft_size // 2 + 1, 64)``, float32."""
    from transformers.audio_utils import mel_filter_bank

    bands = mel_filter_bank(
        variant.fft_size // 2 + 1,
        NUM_BANDS,
        LOWEST_HZ,
        variant.highest_hz,
        variant.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bands).float()


def log_mel(windows: Tensor, variant: Variant, bands: Tensor) -> Tensor:
    """``(n, T)`` at the variant's rate -> ``(n, 1 + T // hop, 64)`` in dB."""
    taper = torch.hann_window(variant.fft_size, device=windows.device)
    spectrum = torch.stft(
        windows, variant.fft_size, variant.hop, window=taper, center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum.abs().square().transpose(1, 2)  # (n, frames, fft_size // 2 + 1)
    return 10.0 * torch.log10((power @ bands).clamp(min=POWER_FLOOR))


class Block(nn.Module):
    """Two 3×3 convolutions, each with batch norm and ReLU; tensors named as published."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))))


class Cnn14(nn.Module):
    """Log-mel ``(n, frames, 64)`` to embeddings ``(n, 2048)`` and logits ``(n, 527)``."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(NUM_BANDS)
        for index, (width_in, width) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False), start=1):
            self.add_module(f"conv_block{index}", Block(width_in, width))
        self.fc1 = nn.Linear(WIDTHS[-1], WIDTHS[-1])
        self.fc_audioset = nn.Linear(WIDTHS[-1], NUM_CLASSES)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.bn0(mel[:, None].transpose(1, 3)).transpose(1, 3)  # normalised by band; (n, 1, frames, 64)
        for index in range(1, len(WIDTHS) + 1):
            maps = self.get_submodule(f"conv_block{index}")(maps)
            if index < len(WIDTHS):
                maps = F.avg_pool2d(maps, 2)
        over_time = maps.mean(dim=3)  # (n, 2048, frames / 32)
        pooled = over_time.amax(dim=2) + over_time.mean(dim=2)
        embeddings = F.relu(self.fc1(pooled))
        return embeddings, self.fc_audioset(embeddings)


class Pann:
    """The network of one variant with its weights, from a clip to both of its outputs."""

    def __init__(self, variant: Variant, weights: str, device: str) -> None:
        self.variant = variant
        self.device = device_of(device)
        path = weights_file(variant.published, weights)
        who = variant.published.embedder
        tensors = read_foreign(path, who, "model")
        bands = tensors.get(MEL_MATRIX, mel_matrix(variant))
        if bands.shape != (variant.fft_size // 2 + 1, NUM_BANDS):
            raise MelodyError(
                f"{who}: {path} was made for another rate: its bands have shape {tuple(bands.shape)}, "
                f"expected {(variant.fft_size // 2 + 1, NUM_BANDS)}"
            )
        self.bands = as_float32(bands).to(self.device)
        weights_only = {name: tensor for name, tensor in tensors.items() if not name.startswith(FRONT_END)}
        self.network = filled(Cnn14, weights_only, f"{who}: {path}").to(self.device)
        self.weights_hash = file_hash(path)

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Mono ``(T,)`` -> embeddings ``(windows, 2048)`` and logits ``(windows, 527)``."""
        check_clip(waveform, self.variant.published.embedder)
        length = round(WINDOW_S * self.variant.sample_rate)
        samples = F.pad(waveform.float(), (0, max(0, length - len(waveform))))
        groups = cut_windows(samples[None], length)[0].split(WINDOWS_AT_ONCE)
        outputs = [self.network(log_mel(group.to(self.device), self.variant, self.bands)) for group in groups]
        embeddings, logits = zip(*outputs, strict=True)
        return torch.cat(embeddings).cpu(), torch.cat(logits).cpu()


@audio_embedders.register("pann")
class PannEmbedder(AudioEmbedder):
    """CNN14 at 32 kHz: 2,048 dimensions for windows of 10 s.

    Args:
        weights: the published ``.pth`` (read without unpickling code) or ``.safetensors`` with its names; a file, a
            folder or a hub id.
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: no weights, or such as do not fit.
    """

    version: ClassVar[str] = "1"
    variant: ClassVar[Variant] = CNN14_32K
    dimension = WIDTHS[-1]
    window_s = hop_s = WINDOW_S

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        self.pann = Pann(self.variant, weights, device)
        self.device = self.pann.device
        self.sample_rate = self.variant.sample_rate
        self.weights_hash = self.pann.weights_hash

    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at its rate -> ``(windows, 2048)``, none negative."""
        return self.pann(waveform)[0]


@audio_embedders.register("pann-16k")
class Pann16kEmbedder(PannEmbedder):
    """CNN14 at 16 kHz: 2,048 dimensions for windows of 10 s."""

    variant: ClassVar[Variant] = CNN14_16K


@audio_taggers.register("pann")
class PannTagger(AudioTagger):
    """CNN14 at 32 kHz: logits of AudioSet's 527 classes for windows of 10 s.

    Args:
        weights, device: as of the embedder ``pann``.
    Raises:
        MelodyError: no weights, or such as do not fit.
    """

    version: ClassVar[str] = "1"
    variant: ClassVar[Variant] = CNN14_32K
    window_s = hop_s = WINDOW_S

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        self.pann = Pann(self.variant, weights, device)
        self.device = self.pann.device
        self.sample_rate = self.variant.sample_rate
        self.weights_hash = self.pann.weights_hash
        self.labels = class_names()

    def tag(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at its rate -> logits ``(windows, 527)``: classes are not exclusive, each has its sigmoid."""
        return self.pann(waveform)[1]


@audio_taggers.register("pann-16k")
class Pann16kTagger(PannTagger):
    """CNN14 at 16 kHz: logits of AudioSet's 527 classes for windows of 10 s."""

    variant: ClassVar[Variant] = CNN14_16K
