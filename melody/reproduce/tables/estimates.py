"""From what jobs found of generated clips to measurements that are no registered metric's."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from melody.errors import MelodyError
from melody.evaluation import levels
from melody.evaluation.result import Measurement
from melody.metrics.levels import SILENCE_DB
from melody.metrics.text_correlation import shuffled_cosines
from melody.reproduce.jobs.embedded_clips import EmbeddedClips
from melody.reproduce.jobs.generation import GeneratedClips

SILENT_PEAK = 10 ** (SILENCE_DB / 20)


def agreement(generated: Mapping[int, EmbeddedClips]) -> Measurement:
    """Per cent of clips in which the instrument of the prompt is heard, over prompts and seeds, cut to 0 to 100.

    Where all clips agree or none does, there is no spread to go by: Wilson's interval over the prompts of one seed.
    """
    rows = {seed: [100 * agrees for agrees in clips.instrument_agreement] for seed, clips in generated.items()}
    expected = sum(clips.count for clips in generated.values())
    measured = levels.over_prompts(rows, expected)
    prompts = len(next(iter(rows.values())))
    if len({value for values in rows.values() for value in values}) == 1:
        alike = levels.percentage(prompts if measured.value else 0, prompts, expected, over="prompts")
        return alike.model_copy(update={"by_seed": measured.by_seed, "scored": measured.scored})
    low, high = (None if end is None else min(max(end, 0.0), 100.0) for end in (measured.low, measured.high))
    return measured.model_copy(update={"low": low, "high": high})


def agreement_of(clips: EmbeddedClips) -> Measurement:
    """The same of clips that are no prompt's seeds: real ones, and controls."""
    heard = clips.instrument_agreement
    return levels.percentage(int(sum(heard)), len(heard), clips.count)


def mcc_shuffled(clips: Mapping[int, EmbeddedClips], expected: int) -> Measurement:
    """``mcc`` with every clip against another prompt: the score where prompts do not matter."""
    rows = {seed: shuffled_cosines(own.text, own.audio, seed=seed).tolist() for seed, own in clips.items()}
    return levels.over_prompts(rows, expected)


def passes(generated: Mapping[int, GeneratedClips], counted: str) -> Measurement:
    """Passes that made each seed's clips, by a field of ``PassCounts``: the same for every seed, without interval.

    Raises:
        MelodyError: the system reports none.
    """
    by_part = {str(seed): attrgetter(counted)(clips.counts) for seed, clips in generated.items()}
    if not any(by_part.values()):
        raise MelodyError("it reports no passes")
    return levels.count({seed: float(sum(parts.values())) for seed, parts in by_part.items()})


def with_silence(measured: Measurement, generated: Mapping[int, GeneratedClips]) -> Measurement:
    """A measurement that says how many of the generated clips in it are silent, if any are."""
    peaks = [peak for clips in generated.values() for peak in clips.peaks]
    silent = sum(peak < SILENT_PEAK for peak in peaks)
    if not silent:
        return measured
    said = f"{silent} of {len(peaks)} generated clips are silent"
    return measured.model_copy(update={"warning": "; ".join(filter(None, [said, measured.warning]))})
