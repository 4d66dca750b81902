"""Presets of the cascade: TOML files in ``melody/presets/noise2music``, or any path."""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator

from melody import registry
from melody.baselines.base import BaselinePreset
from melody.baselines.noise2music.frames import Frames
from melody.baselines.noise2music.network import StageNetwork
from melody.config import PRESETS, DenoiserStage, FrozenModel, Positive, PositiveFloat

PARTS = ("generator", "cascader", "super_resolution")
"""The networks, in the order of generation."""
CONDITIONING = ("joint_embedder", "rvq")
"""Parts of our own system that read the prompt, as they are."""


class Network(FrozenModel):
    """One stage: the size of its network, and how it is sampled unless a call says otherwise."""

    hidden_size: Positive
    widths: tuple[Positive, ...]
    blocks: tuple[Positive, ...]
    num_heads: Positive
    patch: Positive = 1
    num_steps: Positive
    guidance_scale: float = 1.0
    sampler: str = "ddim"
    grid: str = "uniform"

    def sizes(self) -> dict[str, Any]:
        """What the network's weights are bound to."""
        return self.model_dump(include={"hidden_size", "widths", "blocks", "num_heads", "patch"})


class CascadeStage(DenoiserStage):
    """Settings of one stage's training; ``clip_s`` is the length of the pieces that it sees."""

    lower_noise: Annotated[float, Field(ge=0)] = 0.0
    """Most noise that is added to what the stages before made, at unit scale, whose own deviation is uniform from 0 to
    this: what these make when music is generated is not the truth (conditioning augmentation, arXiv 2106.15282)."""
    segment_s: PositiveFloat = 10.0
    """Length of the pieces that have one prompt, of which ``clip_s`` are drawn."""


class CascadeTraining(FrozenModel):
    generator: CascadeStage
    cascader: CascadeStage
    super_resolution: CascadeStage


class Noise2MusicPreset(BaselinePreset):
    """A whole cascade, which reads the prompt by MeLoDy's joint embedder and quantiser."""

    system = "noise2music"
    folder = PRESETS / "noise2music"

    sample_rate: Positive = 24_000
    hop_length: Positive
    middle_rate: Positive
    num_mels: Positive
    n_fft: Positive
    power: Annotated[float, Field(gt=0, le=1)] = 1.0
    longest_s: PositiveFloat
    """The longest clip that is made: 30 s are published."""
    generator: Network
    cascader: Network
    super_resolution: Network
    training: CascadeTraining | None = None

    @model_validator(mode="after")
    def _whole_frames(self) -> Self:
        with torch.device("meta"):
            self.frames()
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS

    @property
    def shared(self) -> tuple[str, ...]:
        return CONDITIONING

    def check(self) -> None:
        for kind, name in self._drawn().values():
            registry.registry(kind).entry(name)
        self.melody_preset()

    def frames(self) -> Frames:
        """Waveform to the stages' data, and back."""
        return Frames(self.sample_rate, self.hop_length, self.middle_rate, self.num_mels, self.n_fft, self.power)

    def channels(self, part: str) -> tuple[int, int]:
        """Values a frame that a stage makes, and values a frame that the stages before it made."""
        lower = self.hop_length * self.middle_rate // self.sample_rate
        made = {"generator": self.num_mels, "cascader": lower, "super_resolution": self.hop_length - lower}
        before = PARTS[: PARTS.index(part)]
        return made[part], sum(made[name] for name in before)

    def build(self, part: str) -> StageNetwork:
        """One stage's network with random weights, on torch's default device."""
        network: Network = getattr(self, part)
        return StageNetwork(*self.channels(part), self.melody_preset().embedding_dim, **network.sizes())

    def component_of(self, part: str) -> dict[str, Any]:
        """What a network's weights are bound to: its size, and the data that it makes."""
        names = {"sample_rate", "hop_length", "middle_rate", "num_mels", "n_fft", "power", "melody"}
        network: Network = getattr(self, part)
        return {"use": f"noise2music-{part}", "arguments": {**self.model_dump(include=names), **network.sizes()}}

    def components(self) -> dict[str, tuple[str, str]]:
        return super().components() | self._drawn()

    def _drawn(self) -> dict[str, tuple[str, str]]:
        """Samplers and grids of the stages."""
        return {
            f"{part} {name}": (f"{name}s", getattr(getattr(self, part), name))
            for part in PARTS
            for name in ("sampler", "grid")
        }
