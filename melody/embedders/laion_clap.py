"""LAION-CLAP's audio tower (Wu et al. 2023, arXiv 2211.06687) by its own package: 512 dimensions, 48 kHz.

Definition, version 1. ``laion-clap``: windows of 10 s side by side, the last one moved back so that it ends with the
clip, a shorter clip repeated until it fills one; never the package's own random crop. ``clap-fadtk``: the protocol
fadtk-clap, a window every second, the last ones filled with zeros, samples rounded to 16 bits. Unit vectors in both.

Scores differ by checkpoint: its hash is in ``identity()``, and belongs beside the number.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from melody.artifacts.files import file_hash
from melody.checks import check_clip
from melody.conditioning.clap import SOURCE, WINDOW, ClapEmbedder
from melody.conditioning.windows import cut_windows
from melody.devices import device_of
from melody.embedders.checkpoints import Published, weights_file
from melody.embedders.fad_protocols import FADTK_CLAP, prepared, windows
from melody.protocols import AudioEmbedder
from melody.registry import audio_embedders

WINDOWS_AT_ONCE = 8
FILES = ("630k-audioset-best.safetensors", "630k-audioset-best.pt")
"""The package's own default. Another checkpoint is given as a file: in a folder nobody should have to guess."""


@audio_embedders.register("laion-clap")
class LaionClap(AudioEmbedder):
    """LAION-CLAP through its own package, in fixed windows of 10 s.

    Args:
        weights: the checkpoint, ``.pt`` (read without unpickling code) or ``.safetensors``: a file, or a folder or hub
            id with 630k-audioset-best. Its tower, HTSAT-tiny or HTSAT-base, is told by its tensors.
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: the package, the checkpoint or the tokenizer's files are missing, or the checkpoint does not fit.
    """

    needs: ClassVar[tuple[str, ...]] = ("laion_clap",)
    version: ClassVar[str] = "1"
    name: ClassVar[str] = "laion-clap"
    sample_rate = FADTK_CLAP.sample_rate
    dimension = 512
    window_s = hop_s = WINDOW / FADTK_CLAP.sample_rate

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        self.device = device_of(device)
        path = weights_file(Published(self.name, FILES, SOURCE), weights)
        self.clap = ClapEmbedder(str(path), audio_model="auto").to(self.device)
        self.weights_hash = file_hash(path)

    @torch.inference_mode()
    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at 48 kHz -> unit vectors ``(windows, 512)``."""
        check_clip(waveform, self.name)
        groups = self.cut(waveform.float()).split(WINDOWS_AT_ONCE)
        return torch.cat([self.clap.embed_audio(group[:, None].to(self.device)).cpu() for group in groups])

    def cut(self, waveform: Tensor) -> Tensor:
        """A clip ``(T,)`` to windows ``(windows, 480000)``."""
        return cut_windows(waveform[None], WINDOW)[0]


@audio_embedders.register("clap-fadtk")
class ClapFadtk(LaionClap):
    """LAION-CLAP as fadtk uses it: 10 s every second, the last windows zero-padded, 16-bit samples (fadtk-clap)."""

    name: ClassVar[str] = "clap-fadtk"
    protocol = FADTK_CLAP.name
    hop_s = FADTK_CLAP.hop_s

    def cut(self, waveform: Tensor) -> Tensor:
        """A clip ``(T,)`` to windows ``(ceil(T / 48000), 480000)``."""
        return windows(prepared(waveform, FADTK_CLAP), FADTK_CLAP)
