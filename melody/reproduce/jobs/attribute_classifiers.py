"""What judges hear in clips of prompts: whether the instrument that a prompt names is the one that is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from melody.data.captions import named_instrument
from melody.reproduce.attribute_classifiers import classifiers_key
from melody.reproduce.context import Context
from melody.reproduce.jobs.job import Job, JobResult


def classifiers_facts(context: Context, training_clips: int) -> dict[str, Any]:
    """What decides the judges, for keys; raises ``MelodyError`` where the run has no training split."""
    corpus = context.training(training_clips)
    return {"training_clips": training_clips, "judges": classifiers_key(corpus, context.reading(corpus))}


def classifiers_job(context: Context, *, training_clips: int) -> Job:
    """The judges learn; whoever needs them finds them in the cache."""
    return Job("judges", classifiers_facts(context, training_clips), f"judges learn from {training_clips:,} real clips")


def train_classifiers(config: dict[str, Any], context: Context) -> JobResult:
    """Compute a judges unit."""
    judges = context.attribute_classifiers(config["training_clips"])
    parameters = sum(p.numel() for p in judges.parameters())
    return JobResult({"instruments": list(judges.instruments), "parameters": parameters})


def instrument_agreement(
    config: Mapping[str, Any], context: Context, waveform: Tensor, sample_rate: int, texts: Sequence[str]
) -> dict[str, list[float]]:
    """Clips ``(B, 1, T)`` -> 1 or 0 for each whose text names an instrument; nothing where no judges were asked for."""
    if "judges" not in config:
        return {}
    heard = context.attribute_classifiers(config["training_clips"]).predict(waveform, sample_rate)
    named = [named_instrument(text) for text in texts]
    agreement = [float(name == one.instrument) for name, one in zip(named, heard, strict=True) if name is not None]
    return {"instrument_agreement": agreement}
