"""The cascade as a system: text to spectrogram to a waveform of a low rate to 24 kHz."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from melody import __version__
from melody.artifacts.files import file_hash
from melody.artifacts.makings import Makings
from melody.baselines.noise2music.network import StageNetwork
from melody.baselines.noise2music.options import OPTIONS, passes_of, stage_settings
from melody.baselines.noise2music.preset import (
    CONDITIONING,
    PARTS,
    Noise2MusicPreset,
    build_network,
    load_network,
    load_noise2music,
    prompt_size,
)
from melody.config import INDIFFERENT, Preset, load_preset
from melody.devices import device_of
from melody.diffusion.guidance import guided_velocity
from melody.dsp.mel import LOG_FLOOR
from melody.errors import MelodyError
from melody.paths import PACKAGE
from melody.pipeline import build_part, load_part, shipped_weights
from melody.pipeline.meter import PassCounter
from melody.pipeline.prompts import read_prompt
from melody.pipeline.settings import Settings, check_duration
from melody.pipeline.work import prompt_work
from melody.protocols import CallCost, Generation, System
from melody.registry import systems
from melody.samplers import sample
from melody.samplers.noise import standard_normal

LOUDEST = 0.0
"""Natural log of the largest magnitude of a band: a sinusoid of amplitude 1."""


@systems.register("noise2music")
class Noise2MusicSystem(System):
    """Noise2Music-style cascade: three diffusion networks, 1000 + 800 + 800 steps unless told otherwise (Table 3).

    Args:
        preset: ``demo``, ``paper``, or the path of a TOML file.
        weights: folder with ``PART.safetensors`` of the three networks, and of the joint embedder and the quantiser if
            they are not those that ship with the preset that conditions the cascade; without it, those shipped.
        device: cpu, cuda or cuda:N.
    Raises:
        MelodyError: unknown preset, missing, damaged or foreign weights, a device that is not there.
    """

    name = "noise2music"
    options: ClassVar[frozenset[str]] = OPTIONS

    def __init__(self, preset: str = "demo", weights: str | Path | None = None, device: str = "cpu") -> None:
        loaded = load_noise2music(preset)
        conditioned_by = load_preset(loaded.melody)
        folder = _folder(loaded, weights)
        if not folder.is_dir():
            raise MelodyError(
                f"noise2music preset {loaded.name!r} has no weights in {folder}; train them (melody train all --system "
                f"noise2music --preset {loaded.name}) and give their folder"
            )
        paths = _paths(conditioned_by, folder)
        modules: dict[str, nn.Module] = {part: load_network(loaded, part, paths[part]) for part in PARTS}
        modules |= {part: load_part(conditioned_by, part, paths[part]) for part in CONDITIONING}
        self._use(loaded, modules, {part: file_hash(path) for part, path in paths.items()}, device)

    @classmethod
    def random(cls, preset: str | Path = "demo", *, seed: int = 0, device: str = "cpu") -> Noise2MusicSystem:
        """The system with random weights, for counting and timing; on the device "meta" it has shapes only."""
        loaded = load_noise2music(preset)
        conditioned_by, system = load_preset(loaded.melody), cls.__new__(cls)
        where = torch.device("meta") if device == "meta" else device_of(device)
        with torch.random.fork_rng(), torch.device(where):
            torch.manual_seed(seed)
            modules: dict[str, nn.Module] = {part: build_network(loaded, part) for part in PARTS}
            modules |= {part: build_part(conditioned_by, part) for part in CONDITIONING}
            if device != "meta":
                _randomize(modules)
        system._use(loaded, modules, {"seed": str(seed)}, device)
        return system

    @classmethod
    def makings(cls, arguments: Mapping[str, Any]) -> Makings:
        """Its own preset, what of MeLoDy's reads the prompt, and the files of both's weights."""
        loaded = load_noise2music(arguments.get("preset", "demo"))
        melody = load_preset(loaded.melody)
        named = {"joint_embedder": ("joint_embedders", melody.joint_embedder.use)}
        for part in PARTS:
            stage = getattr(loaded, part)
            named |= {f"{part} {name}": (f"{name}s", getattr(stage, name)) for name in ("sampler", "grid")}
        content = {"own": loaded.model_dump(mode="json", exclude={*INDIFFERENT, "melody"})}
        content["melody"] = melody.model_dump(mode="json", include=set(CONDITIONING))
        return Makings(loaded.name, content, named, _paths(melody, _folder(loaded, arguments.get("weights"))))

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """One clip of ``duration_s`` for each prompt; options: see ``stage_settings``.

        Raises:
            MelodyError: a bad prompt or option, or a clip longer than ``longest_s``.
        """
        prompt = read_prompt(prompts, None, self.joint_embedder)  # type: ignore[arg-type]
        seconds = self._check_duration(duration_s)
        if len(seeds) != len(prompt):
            raise MelodyError(f"expected one seed a prompt: got {len(seeds)} seeds for {len(prompt)} prompts")
        settings, meter = stage_settings(self.preset, seeds, **options), PassCounter(self.device, len(prompt))
        with meter.timed("joint_embedder"):
            tokens = self.rvq.encode(prompt.embed(self.joint_embedder, self.device))  # type: ignore[operator, arg-type]
            embedded = self.rvq.decode(tokens)  # type: ignore[operator]
        waveform = self._cascade(embedded, self._frames_of(seconds), settings, meter)
        meter.check_passes(passes_of(settings))
        samples = round(seconds * self.sample_rate)
        return Generation(waveform[..., :samples].clamp(-1, 1), self.sample_rate, meter.trace)

    def identity(self) -> dict[str, Any]:
        """Preset, weights and versions."""
        return {
            "preset": self.preset.name,
            "preset_hash": self.preset.hash(),
            "weights": self.hashes,
            "versions": {"melody": __version__, "torch": torch.__version__},
        }

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        """The prompt's tokens, and the steps of the three networks, each of which waits for the one before.

        Raises:
            MelodyError: as ``generate``.
        """
        frames = self._frames_of(self._check_duration(duration_s))
        settings = stage_settings(self.preset, [0], **options)
        steps = [self._step(part, settings[part], passes, frames) for part, passes in passes_of(settings).items()]
        return [*prompt_work(self.joint_embedder, self.rvq), *steps]  # type: ignore[arg-type]

    def _use(
        self, preset: Noise2MusicPreset, modules: dict[str, nn.Module], hashes: dict[str, str], device: str
    ) -> None:
        self.preset, self.hashes = preset, hashes
        self.sample_rate, self.longest_s = preset.sample_rate, preset.longest_s
        self.device = torch.device("meta") if device == "meta" else device_of(device)
        for module in modules.values():
            module.eval().requires_grad_(False).to(self.device)
        self.networks: dict[str, StageNetwork] = {part: modules[part] for part in PARTS}  # type: ignore[misc]
        self.joint_embedder, self.rvq = modules["joint_embedder"], modules["rvq"]
        with torch.device(self.device):
            self.frames = preset.frames()

    def _cascade(self, prompt: Tensor, frames: int, settings: dict[str, Settings], meter: PassCounter) -> Tensor:
        """Embedded prompts ``(B, E)`` -> waveform ``(B, 1, frames * hop)``."""
        nothing = prompt.new_zeros(len(prompt), frames, 0)
        spectrogram = self._sampled("generator", prompt, nothing, settings, meter)
        spectrogram = spectrogram.clamp(math.log(LOG_FLOOR), LOUDEST)
        lower = self._sampled("cascader", prompt, spectrogram, settings, meter)
        below = torch.cat([spectrogram, lower], dim=2)
        upper = self._sampled("super_resolution", prompt, below, settings, meter)
        return self.frames.waveform(torch.cat([lower, upper], dim=2), spectrogram)

    def _sampled(
        self, part: str, prompt: Tensor, lower: Tensor, settings: dict[str, Settings], meter: PassCounter
    ) -> Tensor:
        """One stage's data ``(B, L, C)`` from noise, given those of the stages before."""
        network, chosen = self.networks[part], settings[part]
        generators = chosen.generators(f"noise2music {part}", self.device)
        noise = standard_normal((*lower.shape[:2], network.channels), generators, self.device)
        with meter.metered(part, network):
            condition = network.prepare(prompt, lower)
            latents = sample(
                guided_velocity(network, condition, chosen.guidance_scale),  # type: ignore[arg-type]
                noise,
                sampler=chosen.sampler,
                grid=chosen.grid,
                num_steps=chosen.num_steps,
                generator=generators,
            )
        return network.unscaled(latents)

    def _step(self, part: str, settings: Settings, passes: int, frames: int) -> CallCost:
        """One pass of one network for one clip."""
        network = self.networks[part]
        rows = 1 if settings.guidance_scale == 1 else 2
        prompt = prompt_size(load_preset(self.preset.melody))
        held: list[Any] = []

        def prepare() -> None:
            zeros = network.no_prompt.new_zeros  # wherever the network is now
            condition = network.prepare(zeros(rows, prompt), zeros(rows, frames, network.lower_channels))
            mask = torch.arange(rows, device=network.no_prompt.device) >= 1 if rows == 2 else None
            held[:] = [zeros(rows, frames, network.channels), zeros(rows, frames), condition, mask]

        return CallCost(
            part=part,
            name="one step with guidance" if rows == 2 else "one step",
            shape=f"{frames} frames of {network.channels} + {network.lower_channels}, {rows} rows",
            calls=passes,
            module=network,
            run=lambda: network(*held),
            setup=prepare,
            rows=rows,
        )

    def _check_duration(self, duration_s: float) -> float:
        seconds = check_duration(duration_s)
        if seconds > self.preset.longest_s + 1e-9:
            raise MelodyError(
                f"noise2music preset {self.preset.name!r} makes clips of at most {self.preset.longest_s:g} s: "
                f"{seconds:g} s were asked for, and it cannot continue audio"
            )
        return seconds

    def _frames_of(self, seconds: float) -> int:
        return math.ceil(seconds * self.frames.frame_rate - 1e-9)


def _folder(preset: Noise2MusicPreset, weights: str | Path | None) -> Path:
    return Path(weights) if weights is not None else PACKAGE / "presets" / "weights" / "noise2music" / preset.name


def _paths(melody: Preset, folder: Path) -> dict[str, Path]:
    """The file of each part; of what is MeLoDy's, in the folder or as shipped."""
    paths = {part: folder / f"{part}.safetensors" for part in (*PARTS, *CONDITIONING)}
    for part in CONDITIONING:
        if not paths[part].is_file():
            paths[part] = shipped_weights(melody) / f"{part}.safetensors"
    return paths


def _randomize(modules: dict[str, nn.Module]) -> None:
    """Fill what is fitted, not trained."""
    modules["rvq"].randomize()  # type: ignore[operator]
    if hasattr(modules["joint_embedder"], "fit_vocabulary"):
        modules["joint_embedder"].fit_vocabulary(["music"])  # type: ignore[operator]
