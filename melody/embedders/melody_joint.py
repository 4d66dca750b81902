"""The toolkit's own joint embedder, for windows of audio: ``melody-joint``, and ``melody-joint-tags`` by its texts.

A demo, and ours: trained on a few instruments of one synthesizer, at two cores' size, it tells those apart, and tempo
and drums with them; about other music it knows little. Its numbers compare with no other embedder's, and as the demo
system's own language model is conditioned on the same embedding they are not independent of that system.

Definition, version 1: mono at the embedder's rate; windows of its own length side by side (10 s at 24 kHz with the demo
weights), the last one moved back so that it ends with the clip, a shorter clip repeated until it fills one; each window
scaled to a root mean square of 1 by the embedder itself; unit vectors. Tags: the cosine between a window and the mean
of the texts that name an instrument, over the styles of the corpus, times the scale that training learnt.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from melody.artifacts.files import file_hash
from melody.artifacts.hub import local_folder
from melody.checks import check_clip
from melody.conditioning.windows import cut_windows
from melody.config import preset_for
from melody.data.attributes import INSTRUMENTS
from melody.data.captions import NOUNS
from melody.devices import device_of
from melody.errors import MelodyError
from melody.pipeline.parts import load_part, shipped_weights
from melody.protocols import AudioEmbedder, AudioTagger
from melody.registry import audio_embedders, audio_taggers

PART = "joint_embedder"
WINDOWS_AT_ONCE = 16


class Joint:
    """A preset's joint embedder with its weights, over windows of its own length."""

    def __init__(self, weights: str, device: str) -> None:
        self.device = device_of(device)
        folder = local_folder(weights) if weights else None
        preset = preset_for(None, folder)
        path = (folder or shipped_weights(preset)) / f"{PART}.safetensors"
        part: Any = load_part(preset, PART, path).eval().requires_grad_(False).to(self.device)
        window = getattr(part, "window_length", None)
        if window is None:
            raise MelodyError(
                f"melody-joint: the joint embedder {preset.joint_embedder.use!r} of preset {preset.name!r} has no "
                "window_length; expected one with windows of its own, as in 'mulan'"
            )
        self.embedder: Any = part
        self.window = int(window)
        self.window_s: float = self.window / part.sample_rate
        self.weights_hash = file_hash(path)

    @torch.inference_mode()
    def vectors(self, waveform: Tensor, who: str) -> Tensor:
        """Mono ``(T,)`` -> unit vectors ``(windows, E)``."""
        check_clip(waveform, who)
        groups = cut_windows(waveform.float()[None], self.window)[0].split(WINDOWS_AT_ONCE)
        return torch.cat([self.embedder.embed_audio(group[:, None].to(self.device)).cpu() for group in groups])

    @torch.inference_mode()
    def prompts(self, names: tuple[str, ...]) -> Tensor:
        """Mean of the texts that name each instrument, ``(names, E)``, of unit length."""
        nouns = [words[0] for words in NOUNS.values()]
        texts = self.embedder.embed_text([f"{name} {noun}" for name in names for noun in nouns])
        return F.normalize(texts.unflatten(0, (len(names), len(nouns))).mean(dim=1), dim=-1).cpu()


@audio_embedders.register("melody-joint")
class MelodyJoint(AudioEmbedder):
    """The toolkit's own joint embedder, by default with the weights that ship: a demo, which knows its corpus only.

    Args:
        weights: a folder of model files with a ``joint_embedder.safetensors``, or a hub id; the shipped ones if empty.
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: no such folder or file, weights of another part, or an embedder without windows of its own.
    """

    version: ClassVar[str] = "1"

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        self.joint = Joint(weights, device)
        self.device = self.joint.device
        self.sample_rate = self.joint.embedder.sample_rate
        self.dimension = self.joint.embedder.embedding_dim
        self.window_s = self.hop_s = self.joint.window_s
        self.weights_hash = self.joint.weights_hash

    def embed(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at the embedder's rate -> unit vectors ``(windows, E)``."""
        return self.joint.vectors(waveform, "melody-joint")


@audio_taggers.register("melody-joint-tags")
class MelodyJointTags(AudioTagger):
    """Which instrument of the embedded corpus leads, by the toolkit's own joint embedder: a demo, six labels only.

    Args:
        weights, device: as of the embedder ``melody-joint``.
    Raises:
        MelodyError: as the embedder.
    """

    version: ClassVar[str] = "1"
    labels = tuple(INSTRUMENTS)

    def __init__(self, weights: str = "", device: str = "cpu") -> None:
        self.joint = Joint(weights, device)
        self.device = self.joint.device
        self.sample_rate = self.joint.embedder.sample_rate
        self.window_s = self.hop_s = self.joint.window_s
        self.weights_hash = self.joint.weights_hash
        scale = float(self.joint.embedder.log_logit_scale.exp().clamp(max=100.0))
        self.directions = scale * self.joint.prompts(self.labels)  # (labels, E)

    def tag(self, waveform: Tensor) -> Tensor:
        """Mono ``(T,)`` at the embedder's rate -> logits ``(windows, 6)``, of which the softmax is a distribution."""
        return self.joint.vectors(waveform, "melody-joint-tags") @ self.directions.T
