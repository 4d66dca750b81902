"""The denoisers of Table 5's study at demo scale: their weights, one file a training seed, and jobs that score them.

They ship in ``melody/presets/weights/table5``: ``NAME-SEED.safetensors`` for preset ``table5-NAME``, and ``card.json``,
which says for each how it was trained and by the hashes of which codec and tokenizer it was fed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from melody.artifacts.code_identity import source_hash
from melody.artifacts.files import file_hash
from melody.artifacts.pretrained import read_card
from melody.artifacts.provenance import component_facts
from melody.config import load_preset, preset_names
from melody.paths import PACKAGE
from melody.pipeline import load_part
from melody.protocols import Denoiser
from melody.registry import denoisers
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import JobResult
from melody.reproduce.jobs.reference_clips import DenoisingJob, denoising_code, denoising_values
from melody.reproduce.loaded import Loaded

PREFIX = "table5-"
FOLDER = PACKAGE / "presets" / "weights" / "table5"
FEEDS = {"codec": "codec", "semantic_tokenizer": "semantic tokenizer"}
"""Parts whose output the networks learnt from."""


@dataclass(frozen=True)
class Study:
    """One architecture of the study: its preset, and a file for each training seed."""

    preset: str
    files: dict[int, Path]
    card: dict[int, dict[str, Any]]

    @classmethod
    def of(cls, denoiser: str, seeds: Sequence[int], folder: Path = FOLDER) -> Study | None:
        """The study's runs of a denoiser; ``None`` if it is not in the study."""
        preset = PREFIX + denoiser
        if preset not in preset_names():
            return None
        files = {seed: folder / f"{denoiser}-{seed}.safetensors" for seed in seeds}
        card = read_card(folder) or {}
        return cls(preset, files, {seed: card.get(path.stem, {}) for seed, path in files.items()})

    def lacking(self, context: Context) -> str | None:
        """Why it cannot be scored on the system under test, if it cannot."""
        if lacks := denoisers.lacks(load_preset(self.preset).denoiser.use):
            return lacks
        missing = [path.name for path in self.files.values() if not path.is_file()]
        if missing:
            return (
                f"there are no weights {', '.join(missing)} in {FOLDER.relative_to(PACKAGE.parent)} "
                f"(melody train dpd --preset {self.preset} --seed N)"
            )
        for part, name in FEEDS.items():
            learnt = {card.get("needs", {}).get(part) for card in self.card.values()}
            if learnt != {context.inputs.subject.part_weights.get(part)}:
                return f"it learnt from another {name} than this system's: from that of preset 'demo'"
        return None


@dataclass(frozen=True, kw_only=True)
class StudyJob(DenoisingJob):
    """One run of the study on the corpus's first clips; noise and angles are the same for every run."""

    kind: ClassVar[str] = "denoising-study"
    preset: str
    denoiser: dict[str, Any]

    @classmethod
    def of_study(cls, study: Study, context: Context, *, clips: int, training_seed: int) -> StudyJob:
        """The job of one training seed."""
        clips, preset = min(clips, len(context.loaded.corpus)), load_preset(study.preset)
        return cls(
            label=f"denoising, {study.preset}, training seed {training_seed}",
            **context.common,
            corpus=context.corpus_hash(clips),
            clips=clips,
            seed=context.request.seed,
            preset=study.preset,
            denoiser={
                "component": preset.component_of("denoiser"),
                "code": component_facts(denoisers, preset.denoiser.use),
                "weights": file_hash(study.files[training_seed]),
                "file": study.files[training_seed].name,
            },
            measuring=[source_hash(__name__), *denoising_code()],
        )

    def compute(self, loaded: Loaded) -> JobResult:
        path = FOLDER / self.denoiser["file"]
        module = load_part(load_preset(self.preset), "denoiser", path).eval().to(loaded.device)
        return JobResult(denoising_values(cast(Denoiser, module), self.clips, self.seed, loaded))
