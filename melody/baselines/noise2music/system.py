"""The cascade as a system: text to spectrogram to a waveform of a low rate to 24 kHz."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.baselines.base import PresetSystem
from melody.baselines.noise2music.network import StageNetwork
from melody.baselines.noise2music.options import OPTIONS, passes_of, stage_settings
from melody.baselines.noise2music.preset import PARTS, Noise2MusicPreset
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.diffusion.guidance import guided_velocity
from melody.dsp.mel import LOG_FLOOR
from melody.errors import MelodyError
from melody.pipeline.meter import PassCounter
from melody.pipeline.prompts import read_prompt
from melody.pipeline.settings import Settings, check_duration
from melody.pipeline.work import prompt_work
from melody.protocols import CallCost, Generation, JointEmbedder
from melody.registry import systems
from melody.samplers import sample
from melody.samplers.noise import standard_normal

LOUDEST = 0.0
"""Natural log of the largest magnitude of a band: a sinusoid of amplitude 1."""


@systems.register("noise2music")
class Noise2MusicSystem(PresetSystem):
    """Noise2Music-style cascade: three diffusion networks, 1000 + 800 + 800 steps unless told otherwise (Table 3)."""

    name = "noise2music"
    preset_type = Noise2MusicPreset
    options: ClassVar[frozenset[str]] = OPTIONS

    preset: Noise2MusicPreset
    joint_embedder: JointEmbedder
    rvq: ResidualVectorQuantizer

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """One clip of ``duration_s`` for each prompt; options: see ``stage_settings``.

        Raises:
            MelodyError: a bad prompt or option, or a clip longer than ``longest_s``.
        """
        prompt = read_prompt(prompts, None, self.joint_embedder)
        seconds = self._check_duration(duration_s)
        if len(seeds) != len(prompt):
            raise MelodyError(f"expected one seed a prompt: got {len(seeds)} seeds for {len(prompt)} prompts")
        settings, meter = stage_settings(self.preset, seeds, **options), PassCounter(self.device, len(prompt))
        with meter.timed("joint_embedder"):
            tokens = self.rvq.encode(prompt.embed(self.joint_embedder, self.device))
            embedded = self.rvq.decode(tokens)
        waveform = self._cascade(embedded, self._frames_of(seconds), settings, meter)
        meter.check_passes(passes_of(settings))
        samples = round(seconds * self.sample_rate)
        return Generation(waveform[..., :samples].clamp(-1, 1), self.sample_rate, meter.trace)

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        """The prompt's tokens, and the steps of the three networks, each of which waits for the one before.

        Raises:
            MelodyError: as ``generate``.
        """
        frames = self._frames_of(self._check_duration(duration_s))
        settings = stage_settings(self.preset, [0], **options)
        steps = [self._step(part, settings[part], passes, frames) for part, passes in passes_of(settings).items()]
        return [*prompt_work(self.joint_embedder, self.rvq), *steps]

    def _use(self, parts: dict[str, Any]) -> None:
        self.sample_rate, self.longest_s = self.preset.sample_rate, self.preset.longest_s
        self.networks: dict[str, StageNetwork] = {part: parts[part] for part in PARTS}
        self.joint_embedder, self.rvq = parts["joint_embedder"], parts["rvq"]
        with torch.device(self.device):
            self.frames = self.preset.frames()

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
        prompt = self.melody.embedding_dim
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
