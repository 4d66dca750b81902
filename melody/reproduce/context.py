"""What a run evaluates and with what: the system under test, its parts, the corpus, the prompts, the device."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melody import threads
from melody.artifacts.files import canonical
from melody.artifacts.provenance import commit, component_facts, deciding_versions, device_class, device_name, versions
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.config import Preset
from melody.data.audio import resampled
from melody.data.corpus import Corpus
from melody.errors import MelodyError, one_line
from melody.evaluation.features import checked_windows
from melody.listening.schema import ListeningResult
from melody.metrics.attributes import AttributeClassifiers
from melody.protocols import AudioEmbedder, Codec, Denoiser, JointEmbedder, LanguageModel, SemanticTokenizer, System
from melody.registry import audio_embedders, systems
from melody.reproduce.attribute_classifiers import trained_classifiers
from melody.reproduce.executor import Progress
from melody.reproduce.suite import Suite
from melody.reproduce.systems import OWN, SystemEntry

SEED_STRIDE = 10_000
"""Row r of seed s draws from stream s · 10,000 + r, so that rows of two seeds share no noise: a choice of ours."""


@dataclass(frozen=True)
class Parts:
    """The loaded system under test, and those of its parts that are measured by themselves."""

    system: System
    joint_embedder: JointEmbedder
    codec: Codec
    semantic_tokenizer: SemanticTokenizer
    denoiser: Denoiser
    rvq: ResidualVectorQuantizer | None = None
    language_model: LanguageModel | None = None


@dataclass(frozen=True)
class EvaluatedPreset:
    """The system under test: what identifies it, and how it is loaded, which waits until something must be computed."""

    preset: str
    denoiser: str
    """Name of the preset's denoiser, as registered."""
    weights: str | None
    """SHA-256 over the weights of all parts."""
    facts: dict[str, Any]
    """Content that identifies it in keys: the preset's hash, components with versions, the pipeline's source."""
    load: Callable[[], Parts] = field(compare=False)
    part_weights: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the weights of each part."""
    folders: tuple[Path, ...] = field(default=(), compare=False)
    """Where the weights lie, with their cards."""
    definition: Preset | None = field(default=None, compare=False)
    """The preset itself, for what is counted from it."""
    capabilities: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset({"sampler", "grid", "num_steps", "guidance_scale"})

    def part(self, name: str) -> dict[str, Any]:
        """What identifies one part in keys: its code, arguments and weights."""
        if self.definition is None or name not in self.part_weights:
            return {"subject": self.facts, "weights": self.weights}
        code, arguments = self.facts["components"][name], getattr(self.definition, name).arguments
        return {"component": code, "arguments": arguments, "weights": self.part_weights[name]}


@dataclass
class Context:
    """One run's surroundings. Places (paths, devices) are here; content goes into the jobs' configs."""

    subject: EvaluatedPreset
    corpus_of: Callable[[], Corpus]
    """The held-out corpus, its first clips in a fixed order."""
    prompts: Callable[[int], list[str]]
    """So many texts, no two alike."""
    device: str = "cpu"
    seed: int = 0
    """Added to every seed of a suite."""
    samplers: tuple[str, ...] | None = None
    published_samples: Path | None = None
    training_of: Callable[[int], Corpus] | None = None
    """So many clips of the split that the system learnt from: for what judges and n-gram models learn."""
    pieces_of: Callable[[float], Corpus] | None = None
    """The held-out corpus again, each piece composed to another length in seconds."""
    others: Mapping[str, SystemEntry] = field(default_factory=dict)
    """Systems that stand beside the preset's own in the tables."""
    ratings: ListeningResult | None = None
    """What listeners said of systems of these names."""
    precision: str = "fp32"
    """Of the speed table's networks: fp32, bf16 or fp16; everything else runs in fp32."""
    budget_s: float = 600.0
    """Seconds that the speed table may spend on a system, beside one call of every kind."""
    progress: Progress | None = field(default=None, compare=False)
    """Where the run tells what it does."""
    _loaded: dict[str, System] = field(default_factory=dict, init=False, repr=False, compare=False)
    _broken: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _corpus_hashes: dict[tuple[int, float], str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _pieces: dict[float, Corpus] = field(default_factory=dict, init=False, repr=False, compare=False)
    _training: dict[int, Corpus] = field(default_factory=dict, init=False, repr=False, compare=False)
    _classifiers: dict[int, AttributeClassifiers] = field(default_factory=dict, init=False, repr=False, compare=False)
    _embedders: dict[str, AudioEmbedder] = field(default_factory=dict, init=False, repr=False, compare=False)
    _prompts: dict[int, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def parts(self) -> Parts:
        return self.subject.load()

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say what is being done that is no job, so that the run's progress names it."""
        if self.progress is not None:
            self.progress(done, total, what)

    def reading(self, corpus: Corpus) -> Callable[[int, int], None]:
        """Progress of reading a corpus, whose clips may have to be rendered."""
        return lambda done, total: self.tell(f"reading or rendering {corpus.name}", done, total)

    def content_hash(self, corpus: Corpus) -> str:
        """A corpus's content, told while it is read."""
        return corpus.content_hash(self.reading(corpus))

    def load(self) -> None:
        """Load what was asked for now, so that weights which cannot be loaded end the run and not every cell."""
        self.tell("loading weights")
        _ = self.parts
        for name, one in self.others.items():
            if one.required:
                self.system(name)

    @cached_property
    def systems(self) -> dict[str, SystemEntry]:
        """Every system of the run by its name in the tables, the preset's own first."""
        own = SystemEntry(
            OWN, OWN, self.subject.capabilities, self.subject.options, load=lambda: self.parts.system, required=True
        )
        return {OWN: own, **self.others}

    def system(self, name: str) -> System:
        """A loaded system. Beside the preset's own, whose parts measure the others too, one is in memory at a time."""
        if name == OWN:
            return self.parts.system
        if name in self._broken:
            raise MelodyError(self._broken[name])
        if name not in self._loaded:
            self._loaded.clear()
            gc.collect()
            self.tell(f"loading system {name}")
            try:
                self._loaded[name] = self.systems[name].load()
            except (Exception, SystemExit) as error:  # another project's system may fail in any way
                self._broken[name] = f"system {name!r} cannot be loaded: {one_line(error)}"
                raise MelodyError(self._broken[name]) from error
        return self._loaded[name]

    def system_facts(self, name: str) -> dict[str, Any]:
        """What decides a system's bits, for keys."""
        if name == OWN:
            return {"name": OWN, "subject": self.subject.facts, "weights": self.subject.weights}
        one = self.systems[name]
        if name not in self._facts:
            said = {} if one.identified_by_files else self.system(name).identity()
            self._facts[name] = {"name": name, **one.identity, "facts": said}
            canonical(self._facts[name])
        return self._facts[name]

    def unavailable_reason(self, name: str) -> str:
        """Why a system has no numbers in this run; empty if it can have them.

        Raises:
            MelodyError: the system was asked for by name, and cannot be used.
        """
        if name not in self.systems:
            return (
                f"no system {name!r} is registered"
                if name not in systems
                else f"not run: ask for it by --system {name}"
            )
        one = self.systems[name]
        if not one.unavailable_reason:
            try:
                self.system_facts(name)
            except (Exception, SystemExit) as error:  # as above
                if one.required:
                    raise
                one.unavailable_reason = one_line(error)
        return one.unavailable_reason

    @cached_property
    def corpus(self) -> Corpus:
        return self.corpus_of()

    def corpus_hash(self, clips: int, duration_s: float = 0.0) -> str:
        """SHA-256 over the first clips of the corpus, or of its pieces of another length."""
        if (clips, duration_s) not in self._corpus_hashes:
            self._corpus_hashes[clips, duration_s] = self.content_hash(self.pieces(duration_s)[:clips])
        return self._corpus_hashes[clips, duration_s]

    def pieces(self, duration_s: float) -> Corpus:
        """Held-out pieces of ``duration_s`` or more: the corpus, or where its clips are shorter, longer ones.

        Raises:
            MelodyError: the clips are shorter, and the run has no others.
        """
        if duration_s <= self.corpus[0].duration_s:
            return self.corpus
        if self.pieces_of is None:
            raise MelodyError(
                f"{self.corpus.name}: clips of {self.corpus[0].duration_s:g} s, and none of {duration_s:g} s"
            )
        if duration_s not in self._pieces:
            self._pieces[duration_s] = self.pieces_of(duration_s)
        return self._pieces[duration_s]

    def training(self, clips: int) -> Corpus:
        """Training clips; raises ``MelodyError`` where the run has none."""
        if self.training_of is None:
            raise MelodyError("this run has no training split, from which judges and n-gram models learn")
        if clips not in self._training:
            self._training[clips] = self.training_of(clips)
        return self._training[clips]

    def attribute_classifiers(self, clips: int) -> AttributeClassifiers:
        """Judges of attributes that learnt from so many training clips, trained once."""
        if clips not in self._classifiers:
            self._classifiers[clips] = trained_classifiers(self.training(clips), self._tell_classifiers)
        return self._classifiers[clips]

    def _tell_classifiers(self, done: int, total: int) -> None:
        """They learn when all is heard."""
        self.tell("judges of attributes: " + ("hearing training clips" if done < total else "learning"), done, total)

    @cached_property
    def device_name(self) -> str:
        return device_name(self.device)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What computes an outcome now, to be kept with it."""
        return {
            "commit": commit(),
            "versions": versions(),
            "device": f"{self.device} ({self.device_name})",
            "threads": threads.of_timings(),
        }

    @cached_property
    def common(self) -> dict[str, Any]:
        """What every job hangs on that runs the preset's parts."""
        return {"subject": self.subject.facts, "weights": self.subject.weights, **self.arithmetic}

    @cached_property
    def joint_embedder(self) -> dict[str, Any]:
        """What identifies the preset's joint embedder."""
        return self.subject.part("joint_embedder")

    @cached_property
    def arithmetic(self) -> dict[str, Any]:
        """What every job hangs on that runs a network."""
        return {
            "device": device_class(self.device),
            "precision": "float32",
            "versions": deciding_versions(),
        }

    def texts(self, suite: Suite) -> list[str]:
        """A suite's prompts: its own, or so many held-out captions, chosen once."""
        count = suite.settings.prompts
        if suite.prompts:
            return list(suite.prompts[:count])
        if count not in self._prompts:
            self._prompts[count] = self.prompts(count)
        return self._prompts[count]

    def embedder(self, name: str) -> AudioEmbedder:
        """An audio embedder by name, built once."""
        if name not in self._embedders:
            self._embedders[name] = audio_embedders.create(name)
        return self._embedders[name]

    def embedder_facts(self, name: str) -> dict[str, Any]:
        """What identifies an audio embedder in keys, its weights too; raises ``MelodyError`` if it cannot be had."""
        return {**component_facts(audio_embedders, name), "facts": self.embedder(name).identity()}

    def seeds(self, seeds: Sequence[int]) -> list[int]:
        """A suite's seeds, moved by the run's."""
        return [self.seed + seed for seed in seeds]

    def embed_joint(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """Clips ``(B, 1, T)`` -> joint embeddings ``(B, E)``."""
        joint = self.parts.joint_embedder
        rows = [resampled(row[0].cpu(), sample_rate, joint.sample_rate) for row in waveform]
        with torch.inference_mode():
            return joint.embed_audio(torch.stack(rows)[:, None].to(self.device)).cpu()

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> joint embeddings ``(B, E)``."""
        with torch.inference_mode():
            return self.parts.joint_embedder.embed_text(texts).cpu()

    def embed_windows(self, embedder: str, waveform: Tensor, sample_rate: int) -> Tensor:
        """One clip ``(T,)`` -> ``(windows, E)`` by an embedder of whole sets."""
        model = self.embedder(embedder)
        found = model.embed(resampled(waveform.cpu(), sample_rate, model.sample_rate).clone())
        return checked_windows(found, embedder, model.dimension)


def texts_hash(texts: Sequence[str]) -> str:
    """SHA-256 of prompts in order."""
    return hashlib.sha256(canonical(list(texts))).hexdigest()
