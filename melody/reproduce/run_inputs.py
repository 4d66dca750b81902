"""What a run is asked for, and what it is given: both are fixed before anything is planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.config import Preset
from melody.data.corpus import Corpus
from melody.listening.schema import ListeningResult
from melody.protocols import Codec, Denoiser, JointEmbedder, LanguageModel, SemanticTokenizer, System
from melody.reproduce.systems import SystemEntry

BUDGET_S = 600.0
"""What the speed table may spend on a system, unless a run says otherwise."""


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


@dataclass(frozen=True)
class RunRequest:
    """What whoever starts a run asks for."""

    device: str = "cpu"
    seed: int = 0
    """Added to every seed of a suite."""
    samplers: tuple[str, ...] | None = None
    """Exactly these, instead of each suite's and every plug-in's."""
    ratings: ListeningResult | None = None
    """What listeners said of systems of these names."""
    precision: str = "fp32"
    """Of the speed table's networks: fp32, bf16 or fp16; everything else runs in fp32."""
    budget_s: float = BUDGET_S
    """Seconds that the speed table may spend on a system, beside one call of every kind."""
    grids: tuple[str, ...] | None = None
    """As samplers."""
    sizes: Mapping[str, Preset] = field(default_factory=dict)
    """Presets of ours by the rows that are asked for beside the run's own, for what needs no weights."""


@dataclass(frozen=True)
class RunInputs:
    """What there is to measure, and to measure with. Places are here; content goes into the jobs' configs."""

    subject: EvaluatedPreset
    corpus_of: Callable[[], Corpus]
    """The held-out corpus, its first clips in a fixed order."""
    prompts: Callable[[int], list[str]]
    """So many texts, no two alike."""
    published_samples: Path | None = None
    training_of: Callable[[int], Corpus] | None = None
    """So many clips of the split that the system learnt from: for what judges and n-gram models learn."""
    pieces_of: Callable[[float], Corpus] | None = None
    """The held-out corpus again, each piece composed to another length in seconds."""
    others: Mapping[str, SystemEntry] = field(default_factory=dict)
    """Systems that stand beside the preset's own in the tables."""
