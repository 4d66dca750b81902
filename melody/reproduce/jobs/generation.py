"""Jobs that run the system: clips with their embeddings, levels and passes; timings; a count of passes."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import soundfile
import torch
from torch import Tensor

from melody import threads
from melody.artifacts.code_identity import source_hash
from melody.artifacts.provenance import component_facts, machine
from melody.data.audio import to_int16
from melody.errors import MelodyError, did_you_mean, one_line
from melody.metrics.levels import clipping_rate, peak, silence_rate
from melody.metrics.real_time_factor import time_calls
from melody.metrics.rhythm import SHORTEST_S, beat_strength
from melody.metrics.tonality import key_clarity
from melody.protocols import Generation, GenerationStats
from melody.registry import grids, samplers
from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import instrument_agreement
from melody.reproduce.jobs.embedded_clips import EmbeddedClips, EmbeddedClipsJob, embedding_arrays, kept_waveforms
from melody.reproduce.jobs.job import JobResult, NetworkJob
from melody.reproduce.loaded import SEED_STRIDE, Loaded
from melody.reproduce.systems import OWN

NAMED = {"sampler": samplers, "grid": grids}
"""Options that name a component, which is in keys with its source."""
SLOW_S = 5.0
"""A clip that takes longer at first is timed once for each seed: what disturbs a call is small against it."""
REPEATS = 3
"""Timed calls for each seed, of which the median is taken."""
STORED_CLIPS = 2
"""Clips of a job that are kept to listen to."""


@dataclass(frozen=True)
class Setting:
    """How a clip is generated."""

    duration_s: float
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the system's ``generate``; what is not given is its own default."""
    system: str = OWN

    def __str__(self) -> str:
        names = [str(value) if name in NAMED else f"{name} = {value}" for name, value in self.options.items()]
        return ", ".join([*([] if self.system == OWN else [self.system]), *names])


@dataclass(frozen=True, kw_only=True)
class SystemJob(NetworkJob):
    """A job that runs a system with some options."""

    system: dict[str, Any]
    options: dict[str, Any]
    """As ``generate`` takes them; what names a component of ours has its version and source."""
    duration_s: float
    measuring: str
    """Hash of the code that measures."""

    @property
    def system_name(self) -> str:
        return str(self.system["name"])

    @property
    def given_options(self) -> dict[str, Any]:
        """The options as ``generate`` takes them."""
        return {name: value["name"] if isinstance(value, dict) else value for name, value in self.options.items()}

    def generated(self, loaded: Loaded, texts: list[str], seeds: list[int]) -> Generation:
        """Clips of the system; raises ``MelodyError`` unless it made what was asked for."""
        name, duration_s = self.system_name, self.duration_s
        system = loaded.system(name)
        if system.longest_s is not None and duration_s > system.longest_s:
            raise MelodyError(f"system {name!r} makes clips of {system.longest_s:g} s at most, not of {duration_s:g} s")
        try:
            with threads.every_free_core():
                generation = system.generate(texts, duration_s=duration_s, seeds=seeds, **self.given_options)
        except MelodyError:
            raise
        except Exception as error:  # another project's system may fail in any way, and must spoil only its own cells
            if name == OWN:
                raise
            raise MelodyError(f"system {name!r}: {one_line(error)}") from error
        check(generation, name, system.sample_rate, len(texts), duration_s)
        return generation


@dataclass(frozen=True, kw_only=True)
class GenerationJob(SystemJob, EmbeddedClipsJob):
    """One clip for each prompt, with its levels, passes and proxies."""

    kind: ClassVar[str] = "generation"
    prompts: list[str]
    seed: int

    @classmethod
    def of(
        cls, context: Context, setting: Setting, *, texts: Sequence[str], seed: int, embedding: Mapping[str, Any]
    ) -> GenerationJob:
        """The job of a setting, with ``embedding_facts``; raises ``MelodyError`` for an option of no such name."""
        return cls(
            label=f"{setting}, seed {seed}",
            **embedding,
            **setting_facts(context, setting),
            prompts=list(texts),
            seed=seed,
        )

    def compute(self, loaded: Loaded) -> JobResult:
        texts = self.prompts
        generation = self.generated(loaded, texts, [self.seed * SEED_STRIDE + row for row in range(len(texts))])
        waveform, rate = generation.waveform.cpu(), generation.sample_rate
        windows = {name: [loaded.embed_windows(name, row[0], rate) for row in waveform] for name in self.embedder_names}
        arrays, counts = embedding_arrays(loaded, loaded.embed_joint(waveform, rate), texts, windows)
        facts, kept = kept_waveforms(waveform[:, 0], rate, self.waveforms)
        values = {
            "clips": len(texts),
            "windows": counts,
            **facts,
            "trace": _trace(generation.trace),
            "clipping_rate": clipping_rate(waveform).tolist(),
            "silence_rate": silence_rate(waveform, rate).tolist(),
            "peak": peak(waveform).tolist(),
            **_proxies(waveform, rate),
            **instrument_agreement(self.training_clips, loaded, waveform, rate, texts),
        }
        clips = {f"{row:02d}": flac(waveform[row, 0], rate) for row in range(min(STORED_CLIPS, len(texts)))}
        return JobResult(values, {**arrays, **kept}, clips)


@dataclass(frozen=True)
class PassCounts:
    """Forward passes of one generation by part; its seconds belong to a machine, and so only to timing jobs."""

    passes: dict[str, int]
    """Counted by hooks; empty for a system that reports none."""
    weighted_passes: dict[str, float]
    formula: dict[str, int]
    prefill_tokens: int

    @classmethod
    def of(cls, result: JobResult) -> PassCounts:
        """As a ``GenerationJob`` or ``CountJob`` found them."""
        return cls(**result.values["trace"])


@dataclass(frozen=True)
class GeneratedClips(EmbeddedClips):
    """What a ``GenerationJob`` found of one seed's clips."""

    @property
    def counts(self) -> PassCounts:
        return PassCounts.of(self.results[0])

    @property
    def peaks(self) -> list[float]:
        return list(self.results[0].values["peak"])

    def proxy(self, name: str) -> list[float]:
        """What stands in for listeners, by clip; empty for clips too short to have a beat."""
        return list(self.results[0].values.get(name, []))


@dataclass(frozen=True)
class Timing:
    """What a ``TimingJob`` found: seconds for one clip, by seed."""

    seconds: dict[str, float]
    duration_s: float
    sample_rate: int

    @classmethod
    def of(cls, result: JobResult) -> Timing:
        return cls(**result.values)


@dataclass(frozen=True, kw_only=True)
class TimingJob(SystemJob):
    """Seconds for one clip at a time, on this machine."""

    kind: ClassVar[str] = "timing"
    prompt: str
    seeds: list[int]
    repeats: int
    machine: dict[str, Any]

    @classmethod
    def of(cls, context: Context, setting: Setting, *, text: str, seeds: Sequence[int]) -> TimingJob:
        """The job of a setting; raises ``MelodyError`` for an option of no such name."""
        return cls(
            label=f"timing of {setting}",
            **setting_facts(context, setting),
            prompt=text,
            seeds=list(seeds),
            repeats=REPEATS,
            machine=machine() | {"device": context.device_name},
        )

    def compute(self, loaded: Loaded) -> JobResult:
        """One clip a call, warm-up excluded, synchronised, the median of each seed's repeats."""
        seconds: dict[str, float] = {}

        def call(seed: int) -> None:
            self.generated(loaded, [self.prompt], [seed * SEED_STRIDE])

        with threads.every_core():
            begin = time.perf_counter()
            call(self.seeds[0])  # warm-up
            repeats = 1 if time.perf_counter() - begin > SLOW_S else self.repeats
            for seed in self.seeds:
                timing = time_calls(partial(call, seed), warmup=0, repeats=repeats, device=loaded.device)
                seconds[str(seed)] = timing.median_s
        rate = loaded.system(self.system_name).sample_rate
        return JobResult({"seconds": seconds, "duration_s": self.duration_s, "sample_rate": rate})


@dataclass(frozen=True, kw_only=True)
class CountJob(SystemJob):
    """Forward passes for one clip of some duration."""

    kind: ClassVar[str] = "count"
    prompt: str

    @classmethod
    def of(cls, context: Context, setting: Setting, *, text: str) -> CountJob:
        """The job of a setting; raises ``MelodyError`` for an option of no such name."""
        label = f"passes of {setting.duration_s:g} s, {setting}"
        return cls(label=label, **setting_facts(context, setting), prompt=text)

    def compute(self, loaded: Loaded) -> JobResult:
        return JobResult({"trace": _trace(self.generated(loaded, [self.prompt], [0]).trace)})


def _proxies(waveform: Tensor, sample_rate: int) -> dict[str, Any]:
    """What stands in for listeners where there are none, by clip; nothing for clips too short to have a beat."""
    if waveform.shape[-1] < SHORTEST_S * sample_rate:
        return {}
    return {
        "beat_strength": [beat_strength(row, sample_rate) for row in waveform],
        "key_clarity": [key_clarity(row, sample_rate) for row in waveform],
    }


def flac(waveform: Tensor, sample_rate: int) -> bytes:
    """Mono ``(T,)`` as a 16-bit FLAC file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, to_int16(waveform.numpy()), sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def setting_facts(context: Context, setting: Setting) -> dict[str, Any]:
    """What a generation hangs on, but for prompts and seeds; raises ``MelodyError`` for an option of no such name."""
    one = context.loaded.systems[setting.system]
    takes = one.takes
    for name in setting.options:
        if name not in takes:
            raise MelodyError(f"system {setting.system!r} takes no option {name!r}{did_you_mean(name, takes)}")
    options = {
        # What another project calls a sampler need not be one of ours.
        name: component_facts(NAMED[name], value) if name in NAMED and (one.in_tree or value in NAMED[name]) else value
        for name, value in setting.options.items()
    }
    return {
        **context.arithmetic,
        "system": context.system_facts(setting.system),
        "options": options,
        "duration_s": setting.duration_s,
        "measuring": source_hash(__name__),
    }


def check(generation: Generation, name: str, sample_rate: int, rows: int, duration_s: float) -> None:
    """Raise ``MelodyError`` unless a system made what was asked for, and its counts agree."""
    if not isinstance(generation, Generation):
        raise MelodyError(f"system {name!r} gave {type(generation).__name__}, expected a Generation")
    waveform, rate = generation.waveform, generation.sample_rate
    if not (isinstance(waveform, Tensor) and waveform.is_floating_point()):
        kind = str(waveform.dtype) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise MelodyError(f"system {name!r} made audio as {kind}, expected a tensor of floating-point numbers")
    if rate != sample_rate:
        raise MelodyError(f"system {name!r} made audio at {rate} Hz; it says that it makes {sample_rate} Hz")
    expected = (rows, 1, round(duration_s * rate))
    if tuple(waveform.shape) != expected:
        raise MelodyError(f"system {name!r} made audio of shape {tuple(waveform.shape)}, expected {expected}")
    if not torch.isfinite(waveform).all():
        raise MelodyError(f"system {name!r} made audio that holds NaN or infinity")
    trace = generation.trace
    for kind, counts in (("passes", trace.passes), ("weighted_passes", trace.weighted_passes)):
        for part, count in counts.items():
            if not isinstance(count, int) or count < 0:
                raise MelodyError(f"system {name!r}: {kind} of {part} are {count!r}, expected a whole number")
    for part, formula in trace.formula.items():
        if trace.passes.get(part, 0) != formula:
            counted = trace.passes.get(part, 0)
            raise MelodyError(f"{part}: {counted} forward passes were counted, but the formula gives {formula}")


def _trace(trace: GenerationStats) -> dict[str, Any]:
    """The counts of a trace; its seconds belong to a machine, and so only to timing jobs."""
    return {
        "passes": dict(trace.passes),
        "weighted_passes": dict(trace.weighted_passes),
        "formula": dict(trace.formula),
        "prefill_tokens": trace.prefill_tokens,
    }
