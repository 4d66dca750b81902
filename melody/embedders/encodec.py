"""EnCodec's latents (Défossez et al. 2022, arXiv 2210.13438) by transformers: one vector a frame, before quantisation.

Definition, version 1: the mono model's rate (24 kHz); window and hop are one latent frame (320 samples, 75 a second,
128 dimensions), although a frame has seen what was before it: neighbours are far from independent, so count clips,
not frames. A clip is encoded at once up to 60 s and in pieces of 60 s beyond (ours; public programs encode the whole
file, or cut it after three minutes); a last piece of less than 1 s stays with the one before it.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from melody.checks import check_clip
from melody.devices import device_of
from melody.embedders.checkpoints import Published, folder_hash, load_transformers, weights_folder
from melody.errors import MelodyError
from melody.protocols import AudioEmbedder
from melody.registry import audio_embedders

PIECE_S, SHORTEST_PIECE_S = 60, 1
PUBLISHED = Published("encodec", ("model.safetensors",), "https://huggingface.co/facebook/encodec_24khz")


@audio_embedders.register("encodec")
class Encodec(AudioEmbedder):
    """EnCodec's encoder by transformers' EncodecModel: its latents before quantisation, 75 a second.

    Args:
        weights: a folder with config.json and model.safetensors, or a hub id (``facebook/encodec_24khz``).
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: no weights, such as do not fit, or a model for stereo.
    """

    version: ClassVar[str] = "1"

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        from transformers import EncodecModel

        self.device = device_of(device)
        folder = weights_folder(PUBLISHED, weights)
        model = load_transformers(PUBLISHED, EncodecModel, folder)
        if model.config.audio_channels != 1:
            raise MelodyError(
                f"encodec: {folder} takes {model.config.audio_channels} channels; expected a mono model, as in "
                "facebook/encodec_24khz"
            )
        self.encoder = model.encoder.to(self.device)
        self.sample_rate = int(model.config.sampling_rate)
        self.hop = math.prod(model.config.upsampling_ratios)
        self.window_s = self.hop_s = self.hop / self.sample_rate
        self.dimension = int(model.config.hidden_size)
        self.weights_hash = folder_hash(folder)

    @torch.inference_mode()
    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at the model's rate -> latents ``(frames, dimension)``, a frame for each hop begun."""
        check_clip(waveform, "encodec")
        pieces = self._pieces(waveform.float())
        return torch.cat([self.encoder(piece[None, None].to(self.device))[0].T.cpu() for piece in pieces])

    def _pieces(self, waveform: Tensor) -> list[Tensor]:
        length = PIECE_S * self.sample_rate // self.hop * self.hop
        pieces = list(waveform.split(length))
        if len(pieces) > 1 and len(pieces[-1]) < SHORTEST_PIECE_S * self.sample_rate:
            pieces[-2:] = [torch.cat(pieces[-2:])]
        return pieces
