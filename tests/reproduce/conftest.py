"""A system that makes tones, cheap enough to fill whole tables with, and a context around it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from melody.data.corpus import Clip, Corpus
from melody.protocols import Generation, GenerationStats, Sampler, System
from melody.registry import Entry, samplers
from melody.reproduce.context import Context
from melody.reproduce.run_inputs import EvaluatedPreset, Parts, RunInputs, RunRequest
from melody.reproduce.suite import Suite, load_suite
from melody.reproduce.tables.table import kind_of

RATE = 24_000
FREQUENCIES = (220.0, 330.0, 440.0, 660.0, 880.0, 1320.0)
TEXTS = [f"a tone of {frequency:g} Hz" for frequency in FREQUENCIES]


def tone(frequency: float, duration_s: float) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(round(duration_s * RATE)) / RATE)


class ToneSystem(System):
    """Tones in noise that falls with the number of steps, and more on the uniform grid."""

    name = "melody"
    sample_rate = RATE

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        self.calls.append({"prompts": list(prompts), "seeds": list(seeds), **options})
        if options["sampler"] == "test-broken":
            raise RuntimeError("this sampler\nalways fails")
        steps = options["num_steps"]
        loudness = (0.4 if options["grid"] == "melody-linear" else 0.8) / steps
        rows = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            noise = torch.randn(round(duration_s * RATE), generator=torch.Generator().manual_seed(seed))
            rows.append(tone(float(prompt.split()[3]), duration_s) + loudness * noise)
        waveform = torch.stack(rows)[:, None].clamp(-1, 1)
        if options["sampler"] == "test-nan":
            waveform[0, 0, 0] = math.nan
        passes = {"language_model": round(25 * duration_s), "denoiser": steps}
        trace = GenerationStats(passes, {**passes, "denoiser": 2 * steps}, dict(passes))
        return Generation(waveform, RATE, trace)


class ToneEmbedder:
    """Text by its frequency, audio by its energy at each."""

    sample_rate = RATE
    embedding_dim = len(FREQUENCIES)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([torch.eye(len(FREQUENCIES))[TEXTS.index(text) % len(FREQUENCIES)] for text in texts])

    def embed_audio(self, waveform: Tensor) -> Tensor:
        basis = torch.stack([tone(f, waveform.shape[-1] / RATE) for f in FREQUENCIES])
        return torch.nn.functional.normalize((waveform[:, 0] @ basis.T).abs() + 1e-3, dim=1)


class FrameCodec:
    """Latents are the samples themselves, 16 a frame."""

    sample_rate = RATE

    def encode(self, waveform: Tensor) -> Tensor:
        return waveform[:, 0, : waveform.shape[-1] // 480 * 480].unflatten(1, (-1, 480))[..., :16]


class NoTokens:
    sample_rate = RATE

    def tokenize(self, waveform: Tensor) -> Tensor:
        return torch.zeros(len(waveform), 4, dtype=torch.int64)


class ZeroDenoiser:
    """Predicts no velocity."""

    def prepare(self, semantic_tokens: Tensor) -> None:
        return None

    def forward(self, latents: Tensor, angle: Tensor, condition: Any) -> Tensor:
        return torch.zeros_like(latents)


@dataclass(frozen=True)
class ToneAudio:
    frequency: float
    duration_s: float

    def waveform(self, sample_rate: int) -> Tensor:
        return tone(self.frequency, self.duration_s)

    def content(self) -> bytes:
        return f"{self.frequency} {self.duration_s}".encode()


def tone_corpus(duration_s: float = 2.0) -> Corpus:
    return Corpus(
        "tones",
        [
            Clip(f"tone/{i}", TEXTS[i % 6], (), {}, duration_s, ToneAudio(FREQUENCIES[i % 6] + i // 6, duration_s))
            for i in range(12)
        ],
    )


def tone_context(system: ToneSystem | None = None, **options: Any) -> Context:
    parts = Parts(system or ToneSystem(), ToneEmbedder(), FrameCodec(), NoTokens(), ZeroDenoiser())  # type: ignore[arg-type]
    subject = EvaluatedPreset(
        preset=options.pop("preset", "tones"),
        denoiser="dual-path",
        weights=hashlib.sha256(b"tones").hexdigest(),
        facts={"tones": 1},
        load=lambda: parts,
    )
    asked = {field.name: options.pop(field.name) for field in fields(RunRequest) if field.name in options}
    inputs = RunInputs(subject, corpus_of=tone_corpus, prompts=lambda count: TEXTS[:count], **options)
    return Context(inputs, RunRequest(**asked))


def small(name: str, **settings: Any) -> Suite:
    """A shipped suite at a size for tests; of the settings, those that its kind reads."""
    suite = load_suite(name)
    sizes = {"prompts": 6, "duration_s": 2.0, "reference_clips": 12, "clips": 10, **settings}
    sizes = {key: value for key, value in sizes.items() if key in kind_of(suite).uses.settings}
    return suite.model_copy(update={"settings": suite.settings.model_copy(update=sizes)})


@pytest.fixture(scope="session")
def tones() -> SimpleNamespace:
    """What this file defines, for test modules, which cannot import it."""
    return SimpleNamespace(System=ToneSystem, context=tone_context, small=small, tone=tone, rate=RATE)


@pytest.fixture
def register_sampler() -> Iterator[Callable[[str], None]]:
    """Registers a sampler from outside of the tree, as a plug-in would be, and takes it away after the test."""
    names: list[str] = []

    class Elsewhere(Sampler):
        """A sampler of somebody else's."""

        order = 1

        def step(self, velocity: Any, latents: Tensor, angle: Any, next_angle: Any, state: Any, generator: Any) -> Any:
            return latents, state

    def register(name: str) -> None:
        samplers._load_plugins()[name] = Entry(name, "plug-in (elsewhere:Elsewhere)", Elsewhere, version="1")
        names.append(name)

    yield register
    for name in names:
        del samplers._load_plugins()[name]
