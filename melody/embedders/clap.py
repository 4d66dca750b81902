"""CLAP's audio tower by transformers (``ClapModel``): the same family as ``laion-clap``, without that package.

Definition, version 1: the model's rate (48 kHz) and window (10 s), by the feature extractor that its folder brings;
windows side by side, the last one moved back so that it ends with the clip, a shorter clip repeated until it fills
one: so the extractor has nothing to crop, which it would do at random. Unit vectors (``get_audio_features``).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.checks import check_clip
from melody.conditioning.windows import cut_windows
from melody.devices import device_of
from melody.embedders.checkpoints import Published, folder_hash, load_transformers, weights_folder
from melody.errors import MelodyError
from melody.protocols import AudioEmbedder
from melody.registry import audio_embedders

WINDOWS_AT_ONCE = 8
PUBLISHED = Published("clap", ("model.safetensors",), "https://huggingface.co/laion/clap-htsat-unfused")


@audio_embedders.register("clap")
class Clap(AudioEmbedder):
    """CLAP by transformers' ClapModel, in fixed windows of 10 s.

    Args:
        weights: a folder with config.json, preprocessor_config.json and model.safetensors, or a hub id
            (``laion/clap-htsat-unfused``, ``OWNER/NAME@REVISION``).
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: no weights, such as do not fit, or a fused model, whose crops are drawn at random.
    """

    version: ClassVar[str] = "1"

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        from transformers import ClapFeatureExtractor, ClapModel

        self.device = device_of(device)
        folder = weights_folder(PUBLISHED, weights)
        self.model = load_transformers(PUBLISHED, ClapModel, folder).to(self.device)
        if self.model.config.audio_config.enable_fusion:
            raise MelodyError(
                f"clap: {folder} is a fused model, which crops at random; expected an unfused one, as in "
                "laion/clap-htsat-unfused"
            )
        if not (folder / "preprocessor_config.json").is_file():
            raise PUBLISHED.missing(f"{folder} has no preprocessor_config.json")
        self.extractor: Any = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self.sample_rate = int(self.extractor.sampling_rate)
        self.window = int(self.extractor.nb_max_samples)
        self.window_s = self.hop_s = self.window / self.sample_rate
        self.dimension = int(self.model.config.projection_dim)
        self.weights_hash = folder_hash(folder)

    @torch.inference_mode()
    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at the model's rate -> unit vectors ``(windows, dimension)``."""
        check_clip(waveform, "clap")
        groups = cut_windows(waveform.float()[None], self.window)[0].split(WINDOWS_AT_ONCE)
        return torch.cat([self._vectors(group) for group in groups])

    def _vectors(self, windows: Tensor) -> Tensor:
        inputs = self.extractor(
            list(windows.numpy()),
            sampling_rate=self.sample_rate,
            truncation="rand_trunc",  # never comes to it: a window is what the model takes
            padding="repeatpad",
            return_tensors="pt",
        )
        features = self.model.get_audio_features(input_features=inputs["input_features"].to(self.device))
        vectors: Tensor = features.pooler_output
        return vectors.cpu()
