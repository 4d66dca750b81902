"""Our own pipeline as a system, so that the tables treat it as they treat every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from melody.artifacts.makings import Makings
from melody.config import Preset, load_preset
from melody.data.audio import AudioInput
from melody.pipeline import MelodyPipeline, weight_files
from melody.protocols import CallCost, Generation, System
from melody.registry import systems


@systems.register("melody")
class MelodySystem(System):
    """MeLoDy by one preset: text to music by Algorithm 1, beyond a segment by Algorithm 2.

    Args: as of ``MelodyPipeline.from_preset``.
    """

    name = "melody"
    capabilities: ClassVar[frozenset[str]] = frozenset({"audio-continuation", "long-form"})
    options: ClassVar[frozenset[str]] = frozenset({"sampler", "grid", "num_steps", "guidance_scale", "continuation"})

    def __init__(
        self,
        preset: str | Path | Preset = "demo",
        weights: str | Path | None = None,
        device: str = "cpu",
        parts: dict[str, str | Path] | None = None,
    ) -> None:
        self._use(MelodyPipeline.from_preset(preset, weights=weights, parts=parts, device=device))

    @classmethod
    def makings(cls, arguments: Mapping[str, Any]) -> Makings:
        """The preset, what it names, and the files of its weights."""
        preset = arguments.get("preset", "demo")
        loaded = preset if isinstance(preset, Preset) else load_preset(preset)
        files = weight_files(loaded, arguments.get("weights"), arguments.get("parts"))
        return Makings(loaded.label, loaded.decisive(), loaded.components(), files)

    @classmethod
    def around(cls, pipeline: MelodyPipeline) -> MelodySystem:
        """The system around a pipeline that is loaded already."""
        system = cls.__new__(cls)
        system._use(pipeline)
        return system

    @classmethod
    def random(cls, preset: str | Path | Preset = "paper", *, seed: int = 0, device: str = "cpu") -> MelodySystem:
        """With random weights, for counting and timing; on the device ``meta``, shapes only."""
        return cls.around(MelodyPipeline.random(preset, seed=seed, device=device))

    def generate(
        self, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """One clip of ``duration_s`` for each prompt; options: sampler, grid, num_steps, guidance_scale,
        and continuation, which is how Algorithm 2 is read beyond a segment."""
        self.check_options(options)
        return self.pipeline(prompts, duration_s=duration_s, seeds=seeds, **options)

    def continue_from(
        self, audio: AudioInput, prompts: Sequence[str], *, duration_s: float, seeds: Sequence[int], **options: Any
    ) -> Generation:
        """The given audio and ``duration_s`` of what follows, once for each prompt; options as of ``generate``."""
        self.check_options(options)
        return self.pipeline.continue_from(audio, prompts, duration_s=duration_s, seeds=seeds, **options)

    def work(self, duration_s: float, **options: Any) -> list[CallCost]:
        """What one clip is made of by Algorithms 1 and 2; options as of ``generate``."""
        self.check_options(options)
        return self.pipeline.work(duration_s, **options)

    def _use(self, pipeline: MelodyPipeline) -> None:
        self.pipeline = pipeline
        self.sample_rate = pipeline.sample_rate
