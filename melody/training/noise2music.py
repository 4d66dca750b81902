"""Stages ``generator``, ``cascader`` and ``super_resolution``: velocity prediction by the networks of the cascade.

Each learns from true data of the stages before it, so the three can be trained in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from melody.baselines.noise2music.frames import Frames
from melody.baselines.noise2music.network import StageNetwork
from melody.baselines.noise2music.preset import PARTS, CascadeStage
from melody.data.corpus import Corpus
from melody.diffusion.angles import add_noise, draw_chunk_angles, velocity_target
from melody.errors import MelodyError
from melody.training import features
from melody.training.audio import segments
from melody.training.recipe import Recipe, mean_over_rows
from melody.training.shares import WHOLE, Share
from melody.training.stages import Finish, TrainingRun, fit_stage

SCALE_SEGMENTS = 256
"""Segments that the scale of the data is taken from."""
VALIDATION_SEGMENTS = 64


@dataclass(frozen=True)
class CascadeData:
    """One prompt's tokens and one spectrogram a segment of ``segment_s``; the waveform is read when it is asked for.

    ``prompts`` ``(segments, views, E)``: the quantised embeddings of the audio and of its texts; ``spectrograms``
    ``(segments, L, M)``.
    """

    corpus: Corpus
    frames: Frames
    segment_samples: int
    prompts: Tensor
    spectrograms: Tensor

    def __len__(self) -> int:
        return len(self.spectrograms)

    def piece(self, part: str, segment: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """A stage's data ``(count, C)`` and those of the stages before it ``(count, lower C)``, from a frame on."""
        spectrogram = self.spectrograms[segment, first : first + count]
        if part == PARTS[0]:
            return spectrogram, spectrogram[:, :0]
        excitation = self.frames.excitation(self._waveform(segment, first, count), spectrogram[None])[0]
        lower, upper = excitation.split([self.frames.lower, excitation.shape[1] - self.frames.lower], dim=1)
        if part == PARTS[1]:
            return lower, spectrogram
        return upper, torch.cat([spectrogram, lower], dim=1)

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        return segments(self.corpus, self.segment_samples)

    def _waveform(self, segment: int, first: int, count: int) -> Tensor:
        """The samples of ``count`` frames and half a frame more at both ends, zeros outside of the segment."""
        index, start = self._places[segment]
        whole = self.corpus[index].waveform(self.corpus.sample_rate)[start : start + self.segment_samples]
        hop = self.frames.hop_length
        begin = first * hop - hop // 2
        end = begin + (count + 1) * hop
        padded = torch.nn.functional.pad(whole, (hop, max(0, end - len(whole))))
        return padded[None, None, begin + hop : end + hop]


class StageVelocity(Recipe):
    """One stage of the cascade."""

    settings: CascadeStage
    part: StageNetwork

    def __init__(
        self, part_name: str, part: StageNetwork, settings: CascadeStage, train: CascadeData, validation: CascadeData
    ) -> None:
        self.part_name, self.train_data, self.validation_data = part_name, train, validation
        self.length = round(settings.clip_s * train.frames.frame_rate)
        if not 1 <= self.length <= train.spectrograms.shape[1]:
            raise MelodyError(
                f"stage {part_name}: clip_s is {settings.clip_s}, expected at least a frame and at most segment_s, "
                f"{settings.segment_s}"
            )
        count = min(SCALE_SEGMENTS, len(train))
        pieces = [train.piece(part_name, row * len(train) // count, 0, self.length) for row in range(count)]
        part.fit_scale(torch.stack([piece[0] for piece in pieces]), torch.stack([piece[1] for piece in pieces]))
        super().__init__(part, settings)

    def batch(self, step: int, share: Share = WHOLE) -> tuple[Tensor, ...]:
        settings, data, generator = self.settings, self.train_data, self.generator(step)
        size, last = settings.batch_size, data.spectrograms.shape[1] - self.length
        rows = torch.randint(len(data), (size,), generator=generator)
        views = torch.randint(data.prompts.shape[1], (size,), generator=generator)
        first = torch.randint(last + 1, (size,), generator=generator)
        dropped = torch.rand(size, generator=generator) < settings.guidance_dropout
        noise, angle = self._noise(size, self.part.channels, generator)
        lower_noise = torch.randn((size, self.length, self.part.lower_channels), generator=generator)
        lower_noise *= torch.rand((size, 1, 1), generator=generator) * settings.lower_noise
        own = share.rows(size)
        places = zip(rows[own].tolist(), first[own].tolist(), strict=True)
        pieces = [data.piece(self.part_name, row, frame, self.length) for row, frame in places]
        frames, lower = (torch.stack(tensors) for tensors in zip(*pieces, strict=True))
        prompt = data.prompts[rows[own], views[own]]
        return frames, lower, prompt, noise[own], angle[own], dropped[own], lower_noise[own]

    def losses(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        frames, lower, prompt, noise, angle, dropped, lower_noise = (tensor.to(self.device) for tensor in batch)
        lower = lower + lower_noise * self.part.lower_deviation
        return {"loss": _velocity_error(self.part, frames, lower, prompt, noise, angle, dropped)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Velocity MSE on held-out pieces, noise and angles seeded: with the prompt, without, of predicting zero."""
        network, data = self.trained().eval(), self.validation_data
        assert isinstance(network, StageNetwork)
        generator = torch.Generator().manual_seed(self.settings.seed)
        names = ("velocity_mse", "velocity_mse_unconditional", "velocity_mse_zero")
        errors: dict[str, list[Tensor]] = {name: [] for name in names}
        batches = torch.arange(min(VALIDATION_SEGMENTS, len(data))).split(16)
        for rows in batches:
            pieces = [data.piece(self.part_name, int(row), 0, self.length) for row in rows]
            frames, lower = (torch.stack(tensors).to(self.device) for tensors in zip(*pieces, strict=True))
            noise, angle = (t.to(self.device) for t in self._noise(len(rows), network.channels, generator))
            prompt = data.prompts[rows, 0].to(self.device)  # of the audio itself
            every = torch.ones(len(rows), dtype=torch.bool, device=self.device)
            for name, dropped in (("velocity_mse", ~every), ("velocity_mse_unconditional", every)):
                errors[name].append(_velocity_error(network, frames, lower, prompt, noise, angle, dropped))
            target = velocity_target(network.scaled(frames), noise, angle)
            errors["velocity_mse_zero"].append(target.square().mean())
        return {name: mean_over_rows(values, batches) for name, values in errors.items()}

    def _noise(self, size: int, channels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise ``(size, L, channels)``, and one angle a piece, ``(size, L)``."""
        noise = torch.randn((size, self.length, channels), generator=generator)
        return noise, draw_chunk_angles(size, self.length, 1, generator)


def stage_recipe(part_name: str) -> Callable[[TrainingRun, int | None], Finish]:
    """What ``melody train`` runs for one stage."""

    def recipe(run: TrainingRun, stop_after: int | None) -> Finish:
        train, validation = (_data(run, part_name, corpus) for corpus in (run.train_corpus, run.validation_corpus))
        network: StageNetwork = run.part(part_name)  # type: ignore[assignment]
        stage = StageVelocity(part_name, network, run.settings(part_name), train, validation)
        fit_stage(stage, run, part_name, stop_after)
        return lambda: (stage.trained(), stage.validate())

    return recipe


def _data(run: TrainingRun, part_name: str, corpus: Corpus) -> CascadeData:
    """A corpus's spectrograms and prompts: the tokens of audio, caption, tags and further captions, as the LM's."""
    settings = run.settings(part_name)
    (joint, joint_hash), (rvq, _) = run.shared("joint_embedder"), run.shared("rvq")
    audio = features.audio_embeddings(corpus, joint, settings.segment_s, joint_hash)
    text = features.wording_embeddings(corpus, joint, settings.segment_s, joint_hash)
    tokens = features.prefixes(audio, text, rvq)
    with torch.inference_mode():
        prompts = rvq.decode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    frames: Frames = run.preset.frames()
    samples = round(settings.segment_s * corpus.sample_rate)
    spectrograms = features.spectrograms(corpus, frames, settings.segment_s)
    return CascadeData(corpus, frames, samples, prompts.cpu().clone(), spectrograms)


def _velocity_error(
    network: StageNetwork, frames: Tensor, lower: Tensor, prompt: Tensor, noise: Tensor, angle: Tensor, dropped: Tensor
) -> Tensor:
    latents = network.scaled(frames)
    condition = network.prepare(prompt, lower)
    predicted = network(add_noise(latents, noise, angle), angle, condition, dropped)
    error: Tensor = (predicted - velocity_target(latents, noise, angle)).square().mean()
    return error
