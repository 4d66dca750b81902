"""Plucked tones, as a system for melody-toolkit: what a prompt says decides the pitch, the seed the rhythm."""

import hashlib
import math

import torch

from melody.protocols import Generation, GenerationStats, System


class Plucks(System):
    """Plucked tones at a prompt's own pitch, in a rhythm by seed: no network, a floor for systems that have one."""

    name = "plucks"
    sample_rate = 24_000
    longest_s = 60.0

    def __init__(self, decay_s: float = 0.3) -> None:
        self.decay_s = decay_s

    def generate(self, prompts, *, duration_s, seeds, **options):
        rows = [self._clip(prompt, duration_s, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return Generation(torch.stack(rows)[:, None], self.sample_rate, GenerationStats())

    def identity(self):
        return {"version": 1, "decay_s": self.decay_s}

    def _clip(self, prompt, duration_s, seed):
        generator = torch.Generator().manual_seed(seed)
        pitch = 220 * 2 ** (hashlib.sha256(prompt.encode()).digest()[0] % 24 / 12)
        time = torch.arange(round(duration_s * self.sample_rate)) / self.sample_rate
        clip = torch.zeros_like(time)
        for begin in (duration_s * torch.rand(max(1, round(2 * duration_s)), generator=generator)).tolist():
            since = (time - begin).clamp(min=0)
            clip += 0.2 * (time >= begin) * torch.exp(-since / self.decay_s) * torch.sin(2 * math.pi * pitch * since)
        return clip.clamp(-1, 1)
