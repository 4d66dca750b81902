"""Jobs that go on from real audio: whether what a system adds belongs to what it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.data.audio import resampled
from melody.errors import MelodyError, one_line
from melody.metrics.levels import silence_rate
from melody.protocols import Generation
from melody.reproduce.context import Context
from melody.reproduce.jobs.generation import STORED_CLIPS, Setting, SystemJob, flac, setting_facts
from melody.reproduce.jobs.job import JobResult, float32
from melody.reproduce.loaded import SEED_STRIDE, Loaded
from melody.reproduce.systems import OWN

CONTINUED_CLIPS = 12
EMBEDDER = "mel-stats"
FADE_S = 0.1
"""Given audio may change in its last 100 ms, where what follows fades in."""
KEPT = 1e-3
"""How far a given sample may move elsewhere: beyond 16 bits, and far below what is heard."""


@dataclass(frozen=True, kw_only=True)
class ContinuationJob(SystemJob):
    """Held-out clips, of which the first ``duration_s`` are given and as many are asked for anew.

    One text for all, so that only the given audio can tell the clips apart.
    """

    kind: ClassVar[str] = "continuation"
    joint_embedder: dict[str, Any]
    prompt: str
    seed: int
    clips: int
    corpus: str
    embedder: dict[str, Any]
    continuing: str
    """Hash of this code."""

    @classmethod
    def of(cls, context: Context, setting: Setting, *, text: str, clips: int, seed: int) -> ContinuationJob:
        """The job of a setting; raises ``MelodyError`` for an option of no such name."""
        clips = min(clips, len(context.loaded.corpus))
        return cls(
            label=f"continuation{'' if setting.system == OWN else f' by {setting.system}'}",
            joint_embedder=context.joint_embedder,
            **setting_facts(context, setting),
            prompt=text,
            seed=seed,
            clips=clips,
            corpus=context.corpus_hash(clips),
            embedder=context.embedder_facts(EMBEDDER),
            continuing=source_hash(__name__),
        )

    def compute(self, loaded: Loaded) -> JobResult:
        """What is wrong with each clip, and embeddings of what was given and what is new."""
        rate, corpus = loaded.system(self.system_name).sample_rate, loaded.corpus
        problems: list[str] = []
        rows: dict[str, list[Tensor]] = {"given_mel": [], "new_mel": [], "given_joint": [], "new_joint": []}
        clips: dict[str, bytes] = {}
        for place in range(self.clips):
            heard = resampled(corpus[place].waveform(corpus.sample_rate), corpus.sample_rate, rate)
            given = heard[: round(self.duration_s * rate)]
            made = self._continued(loaded, given, rate, self.seed * SEED_STRIDE + place)
            if problem := _problem(made, given, rate, self.duration_s):
                problems.append(f"clip {place + 1}: {problem}")
                continue
            waveform = made.waveform[0, 0].cpu()
            for name, part in (("given", given), ("new", waveform[len(given) :])):
                rows[f"{name}_mel"].append(loaded.embed_windows(EMBEDDER, part, rate).mean(dim=0))
                rows[f"{name}_joint"].append(loaded.embed_joint(part[None, None], rate)[0])
            if place < STORED_CLIPS:
                clips[f"{place:02d}"] = flac(waveform, rate)
        arrays = {name: float32(torch.stack(values)) for name, values in rows.items() if values}
        return JobResult({"clips": self.clips, "problems": problems}, arrays, clips)

    def _continued(self, loaded: Loaded, given: Tensor, rate: int, seed: int) -> Generation:
        name = self.system_name
        system: Any = loaded.system(name)  # what declares the capability has the method
        if not hasattr(system, "continue_from"):
            raise MelodyError(f"system {name!r} declares that it continues audio, and has no continue_from")
        try:
            made: Generation = system.continue_from(
                (given, rate), [self.prompt], duration_s=self.duration_s, seeds=[seed], **self.given_options
            )
        except Exception as error:  # another project's system may fail in any way
            raise MelodyError(f"system {name!r}: {one_line(error)}") from error
        return made


def _problem(made: Generation, given: Tensor, rate: int, duration_s: float) -> str | None:
    """Why something is no continuation at all, if it is not."""
    waveform = made.waveform.cpu()
    expected = (1, 1, len(given) + round(duration_s * rate))
    if made.sample_rate != rate:
        return f"audio at {made.sample_rate} Hz, expected {rate} Hz"
    # A system that works in frames may end within one of them.
    if waveform.ndim != 3 or waveform.shape[:2] != (1, 1) or abs(waveform.shape[-1] - expected[-1]) > FADE_S * rate:
        return f"audio of shape {tuple(waveform.shape)}, expected {expected}"
    if not torch.isfinite(waveform).all():
        return "NaN or infinity"
    kept = len(given) - round(FADE_S * rate)
    if (waveform[0, 0, :kept] - given[:kept]).abs().max() > KEPT:
        return "the given audio was changed"
    if float(silence_rate(waveform[..., len(given) :], rate)[0]) == 1:
        return "silence"
    return None
