"""What judges hear in clips of prompts: whether the instrument that a prompt names is the one that is played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from melody.data.captions import named_instrument
from melody.reproduce.attribute_classifiers import classifiers_key
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.loaded import Loaded


def classifiers_facts(context: Context, training_clips: int) -> dict[str, Any]:
    """What decides the judges, for keys; raises ``MelodyError`` where the run has no training split."""
    corpus = context.loaded.training(training_clips)
    return {"training_clips": training_clips, "judges": classifiers_key(corpus, context.reading(corpus))}


@dataclass(frozen=True, kw_only=True)
class ClassifiersJob(Job):
    """The attribute classifiers learn; whoever needs them finds them in the cache."""

    kind: ClassVar[str] = "judges"
    judges: str
    training_clips: int

    @classmethod
    def of(cls, context: Context, *, training_clips: int) -> ClassifiersJob:
        """The job of so many clips; raises ``MelodyError`` where the run has no training split."""
        label = f"judges learn from {training_clips:,} real clips"
        return cls(label=label, **classifiers_facts(context, training_clips))

    def compute(self, loaded: Loaded) -> JobResult:
        classifiers = loaded.attribute_classifiers(self.training_clips)
        parameters = sum(p.numel() for p in classifiers.parameters())
        return JobResult({"instruments": list(classifiers.instruments), "parameters": parameters})


def instrument_agreement(
    training_clips: int | None, loaded: Loaded, waveform: Tensor, sample_rate: int, texts: Sequence[str]
) -> dict[str, list[float]]:
    """Clips ``(B, 1, T)`` -> 1 or 0 for each whose text names an instrument.

    Args:
        training_clips: what the classifiers learnt from; nothing is heard where there are none.
    """
    if training_clips is None:
        return {}
    heard = loaded.attribute_classifiers(training_clips).predict(waveform, sample_rate)
    named = [named_instrument(text) for text in texts]
    agreement = [float(name == one.instrument) for name, one in zip(named, heard, strict=True) if name is not None]
    return {"instrument_agreement": agreement}
