"""Presets of the cascade: TOML files in ``melody/presets/noise2music``, or any path."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator

from melody import registry
from melody.artifacts.files import canonical
from melody.artifacts.weights import ForeignWeightsError, load_weights
from melody.baselines.noise2music.frames import Frames
from melody.baselines.noise2music.network import StageNetwork
from melody.config import DenoiserStage, FrozenModel, Positive, PositiveFloat, Preset, load_preset, parse
from melody.documents import read_toml
from melody.errors import MelodyError, did_you_mean
from melody.paths import PACKAGE

PRESETS = PACKAGE / "presets" / "noise2music"
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


class Noise2MusicPreset(FrozenModel):
    """A whole cascade."""

    name: str
    description: str
    melody: str
    """The preset of our own system whose joint embedder and quantiser read the prompt."""
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
    def _whole_frames(self) -> Noise2MusicPreset:
        with torch.device("meta"):
            self.frames()
        return self

    def hash(self) -> str:
        """SHA-256 of the resolved content and of the preset that conditions it."""
        content = canonical([self.model_dump(), load_preset(self.melody).hash()])
        return hashlib.sha256(content).hexdigest()

    def frames(self) -> Frames:
        """Waveform to the stages' data, and back."""
        return Frames(self.sample_rate, self.hop_length, self.middle_rate, self.num_mels, self.n_fft, self.power)

    def channels(self, part: str) -> tuple[int, int]:
        """Values a frame that a stage makes, and values a frame that the stages before it made."""
        lower = self.hop_length * self.middle_rate // self.sample_rate
        made = {"generator": self.num_mels, "cascader": lower, "super_resolution": self.hop_length - lower}
        before = PARTS[: PARTS.index(part)]
        return made[part], sum(made[name] for name in before)

    def component(self, part: str) -> dict[str, Any]:
        """What a network's weights are bound to: its size, and the data that it makes."""
        names = {"sample_rate", "hop_length", "middle_rate", "num_mels", "n_fft", "power", "melody"}
        network: Network = getattr(self, part)
        return {"use": f"noise2music-{part}", "arguments": {**self.model_dump(include=names), **network.sizes()}}


def tables_of(preset: Noise2MusicPreset) -> dict[str, Any]:
    """The tables of a preset, of plain values."""
    return preset.model_dump(mode="json")


def component_of(preset: Noise2MusicPreset, part: str) -> dict[str, Any]:
    """What a network's weights are bound to."""
    return preset.component(part)


def preset_names() -> list[str]:
    """Presets of the cascade that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_noise2music(name: str | Path) -> Noise2MusicPreset:
    """Load a preset by name or by path.

    Raises:
        MelodyError: no such preset, malformed TOML, an unknown key, a value of a wrong type, frames that do not fit.
    """
    path = PRESETS / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".toml":
            raise MelodyError(
                f"unknown noise2music preset {str(name)!r}{did_you_mean(str(name), preset_names())}; "
                "or give the path of a .toml file"
            )
    preset = parse(Noise2MusicPreset, read_toml(path), str(path))
    load_preset(preset.melody)
    for part in PARTS:
        registry.samplers.entry(getattr(preset, part).sampler)
        registry.grids.entry(getattr(preset, part).grid)
    return preset


def build_network(preset: Noise2MusicPreset, part: str) -> StageNetwork:
    """One stage's network with random weights, on torch's default device."""
    network: Network = getattr(preset, part)
    return StageNetwork(*preset.channels(part), prompt_size(load_preset(preset.melody)), **network.sizes())


def load_network(preset: Noise2MusicPreset, part: str, path: Path) -> StageNetwork:
    """One stage's network with its weights; raises ``MelodyError`` if they are missing, damaged or another's."""
    with torch.random.fork_rng():  # random weights that are replaced at once must not move the caller's stream
        network = build_network(preset, part)
    try:
        load_weights(network, path, preset.component(part), wanted=f"noise2music preset {preset.name!r}")
    except ForeignWeightsError as error:
        raise MelodyError(str(error)) from None
    return network


def prompt_size(preset: Preset) -> int:
    """Width of the joint embedding."""
    component = preset.joint_embedder
    found: int = registry.joint_embedders.validate(component.use, component.arguments, where="[joint_embedder]")[
        "embedding_dim"
    ]
    return found
