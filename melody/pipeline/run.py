"""One call of the pipeline: its random streams, its clock, its counters, and the loop over segments."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from melody.diffusion.guidance import guided_velocity
from melody.errors import MelodyError
from melody.pipeline.plan import segment_ends, whole
from melody.protocols import Trace
from melody.samplers import sample
from melody.samplers.noise import standard_normal

if TYPE_CHECKING:
    from melody.pipeline.system import MelodyPipeline

Progress = Callable[[str, int, int], None]
"""``progress(part, done, total)``."""


class Run:
    """One call of the pipeline: its random streams, its clock and its counters."""

    def __init__(self, pipeline: MelodyPipeline, seeds: list[int], progress: Progress | None) -> None:
        self.pipeline = pipeline
        self.seeds = seeds
        self.progress = progress
        self.trace = Trace()

    def generators(self, purpose: str) -> list[torch.Generator]:
        """One independent stream a row and purpose, so that more steps do not change the tokens."""
        return [_generator(seed, purpose, self.pipeline.device) for seed in self.seeds]

    def latents(
        self, prefix: Tensor, duration_s: float, *, sampler: Any, grid: Any, num_steps: int, guidance_scale: float
    ) -> Tensor:
        """Latents ``(B, L, D)`` of the whole duration, segment by segment."""
        pipeline, settings = self.pipeline, self.pipeline.preset.generation
        token_rate, frame_rate = pipeline.semantic_tokenizer.token_rate, pipeline.codec.frame_rate
        token_streams, noise_streams = self.generators("tokens"), self.generators("latents")
        tokens = prefix.new_zeros(len(prefix), 0)
        latents = torch.zeros(len(prefix), 0, pipeline.codec.latent_dim, device=pipeline.device)
        segment_frames = whole(min(settings.segment_s, duration_s) * frame_rate)
        for end_s in segment_ends(duration_s, settings.segment_s, settings.chunks):
            # Algorithm 2 prints ceil(T_ST / M) new tokens a call; where that is not whole the tokens would run ahead of
            # the latents, so we draw as many as the end of the new audio needs: 62 and 63 in turn at 10 s and M = 4.
            end_frame = whole(end_s * frame_rate)
            begin_frame = max(0, end_frame - segment_frames)
            begin_token = round(begin_frame / frame_rate * token_rate)
            tokens = self._extend_tokens(prefix, tokens, whole(end_s * token_rate), begin_token, token_streams)
            known = latents[:, begin_frame:]
            new_frames = end_frame - latents.shape[1]
            noise = standard_normal(
                (len(prefix), new_frames, latents.shape[2]), noise_streams, device=latents.device, dtype=latents.dtype
            )
            # Old frames have angle 0 and are held fixed: the evident intent of Algorithm 2.
            start_angle = torch.cat([torch.zeros(known.shape[:2]), torch.full(noise.shape[:2], math.pi / 2)], dim=1).to(
                latents.device
            )
            with self.timed("denoiser"), self._counted("denoiser"):
                denoiser = pipeline.denoiser
                velocity = guided_velocity(denoiser, denoiser.prepare(tokens[:, begin_token:]), guidance_scale)
                segment = sample(
                    velocity,
                    torch.cat([known, noise], dim=1),
                    sampler=sampler,
                    grid=grid,
                    num_steps=num_steps,
                    generator=noise_streams,
                    callback=self._callback("denoiser"),
                    start_angle=start_angle,
                )
            latents = torch.cat([latents, segment[:, known.shape[1] :]], dim=1)
        return latents

    def _extend_tokens(
        self, prefix: Tensor, tokens: Tensor, until: int, begin: int, streams: list[torch.Generator]
    ) -> Tensor:
        settings = self.pipeline.preset.generation
        context = tokens[:, begin:]
        self.trace.prefill_tokens += prefix.shape[1] + context.shape[1]
        count = until - tokens.shape[1]
        with self.timed("language_model"), self._counted("language_model"):
            new = self.pipeline.language_model.generate(
                prefix,
                count,
                semantic_tokens=context if context.shape[1] else None,
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                generator=streams,
                callback=self._callback("language_model"),
            )
        return torch.cat([tokens, new], dim=1)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        self._synchronize()
        begin = time.perf_counter()
        yield
        self._synchronize()
        self.trace.seconds[part] = self.trace.seconds.get(part, 0.0) + time.perf_counter() - begin

    @contextmanager
    def _counted(self, part: str) -> Iterator[None]:
        """Count forward calls by a hook."""
        trace = self.trace

        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            trace.passes[part] = trace.passes.get(part, 0) + 1
            weight = len(arguments[0]) // len(self.seeds)
            trace.weighted_passes[part] = trace.weighted_passes.get(part, 0) + weight

        handle = getattr(self.pipeline, part).register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def checked_trace(self, formula: dict[str, int]) -> Trace:
        """The trace, if hooks and formula agree; a sampler that declares another cost than it has is refused."""
        self.trace.formula = formula
        for part, expected in formula.items():
            counted = self.trace.passes.get(part, 0)
            if counted != expected:
                raise MelodyError(f"{part}: {counted} forward passes were counted, but the formula gives {expected}")
        return self.trace

    def _callback(self, part: str) -> Callable[[int, int], None] | None:
        if self.progress is None:
            return None
        progress = self.progress
        return lambda done, total: progress(part, done, total)

    def _synchronize(self) -> None:
        if self.pipeline.device.type == "cuda":
            torch.cuda.synchronize(self.pipeline.device)


def _generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    entropy = [seed, int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
