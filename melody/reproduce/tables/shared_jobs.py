"""Runs of the system that tables share, so that each is computed once for all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from melody.reproduce.context import Context
from melody.reproduce.jobs.attribute_classifiers import ClassifiersJob, classifiers_facts
from melody.reproduce.jobs.continuation import CONTINUED_CLIPS, ContinuationJob
from melody.reproduce.jobs.embedded_clips import embedding_facts
from melody.reproduce.jobs.generation import CountJob, GenerationJob, Setting, TimingJob
from melody.reproduce.jobs.job import Job
from melody.reproduce.jobs.reference_clips import ReferenceJob
from melody.reproduce.suite import ListedRow, Row, Suite
from melody.reproduce.systems import OWN

SAMPLING = ("sampler", "grid", "num_steps")
"""Settings by which clips are sampled, where a row has no such axis."""
DEFAULT_EMBEDDER = "mel-stats"
"""Every run is embedded by it, so that tables which ask for no embedder share their runs with those which do."""


def generation_jobs(
    suite: Suite,
    context: Context,
    row: Row,
    embedders: Sequence[str] = (),
    system: str = OWN,
    *,
    waveforms: bool = False,
) -> dict[int, Job]:
    """One job a seed, for a row with sampler, grid and num_steps, or for another system."""
    setting, texts = setting_of(suite, context, row, system), context.texts(suite)
    embedding = embedding_of(suite, context, {DEFAULT_EMBEDDER, *embedders}, waveforms=waveforms)
    return {
        seed: GenerationJob.of(context, setting, texts=texts, seed=seed, embedding=embedding)
        for seed in context.seeds(suite.settings.seeds)
    }


def held_out_job(suite: Suite, context: Context, embedders: Sequence[str] = ()) -> Job:
    """The held-out clips that distances are taken to."""
    embedding = embedding_of(suite, context, {DEFAULT_EMBEDDER, *embedders})
    return ReferenceJob.of(context, clips=suite.settings.reference_clips, embedding=embedding)


def embedding_of(
    suite: Suite, context: Context, embedders: Collection[str], *, waveforms: bool = False
) -> dict[str, Any]:
    """By what a suite's clips are embedded and heard, for keys."""
    return embedding_facts(context, sorted(embedders), classifiers_of(suite, context), waveforms=waveforms)


def classifiers_of(suite: Suite, context: Context) -> dict[str, Any]:
    """Facts of the judges that hear a suite's clips, if any do: in a run without training clips there are none."""
    if not suite.settings.judges or context.inputs.training_of is None:
        return {}
    return classifiers_facts(context, suite.settings.training_clips)


def classifiers_first(suite: Suite, context: Context) -> list[Job]:
    """The judges, in time for the first clip."""
    if not classifiers_of(suite, context):
        return []
    return [ClassifiersJob.of(context, training_clips=suite.settings.training_clips)]


def timing(suite: Suite, context: Context, row: Row, system: str = OWN) -> Job:
    """One clip at a time, once for each seed."""
    return _timing(suite, context, setting_of(suite, context, row, system))


def timing_by_default(suite: Suite, context: Context, system: str) -> Job:
    """The same with the system's own defaults, whatever a suite sets to save time."""
    if system == OWN:
        return timing(suite, context, settings_row(suite))
    return _timing(suite, context, Setting(suite.settings.duration_s, context.loaded.systems[system].options, system))


def count(suite: Suite, context: Context, duration_s: float, system: str = OWN, *, by_default: bool = False) -> Job:
    """Passes of one clip: ours with the suite's sampler, grid and number of steps, another's as it is to be counted.

    Args:
        by_default: another system by its own defaults, whatever the suite says of counting it.
    """
    text = context.texts(suite)[0]
    if system == OWN:
        return CountJob.of(context, setting_of(suite, context, settings_row(suite), duration_s=duration_s), text=text)
    one = context.loaded.systems[system]
    options = {} if by_default else suite.settings.counted.get(one.use, {})
    return CountJob.of(context, Setting(duration_s, {**options, **one.options}, system), text=text)


def continuation(suite: Suite, context: Context, system: str) -> Job:
    """Held-out clips cut in the middle and gone on from, half of the suite's duration each."""
    setting = setting_of(suite, context, settings_row(suite), system, suite.settings.duration_s / 2)
    return ContinuationJob.of(
        context,
        setting,
        text=context.texts(suite)[0],
        clips=min(suite.settings.prompts, CONTINUED_CLIPS),
        seed=context.seeds(suite.settings.seeds)[0],
    )


def rows_of_systems(suite: Suite, context: Context) -> list[ListedRow]:
    """A suite's rows, and one for every system of the run that it does not list."""
    listed = {str(row.row.get("system")) for row in suite.rows}
    others = [name for name in context.loaded.compared if name not in listed]
    return [*suite.rows, *(ListedRow(row={"system": name}) for name in others)]


def settings_row(suite: Suite, num_steps: int | None = None) -> Row:
    """The sampling of a suite without axes."""
    row: Row = {name: getattr(suite.settings, name) for name in SAMPLING}
    return row if num_steps is None else {**row, "num_steps": num_steps}


def setting_of(suite: Suite, context: Context, row: Row, system: str = OWN, duration_s: float | None = None) -> Setting:
    """How a system is run: ours by a row's axes, another by the suite's options for it, else by its own defaults."""
    duration_s = duration_s or float(row.get("duration_s", suite.settings.duration_s))
    one = context.loaded.systems[system]
    if system != OWN and one.is_row:
        return Setting(duration_s, {**suite.settings.systems.get(one.use, {}), **one.options}, system)
    settings = {name: getattr(suite.settings, name) for name in (*SAMPLING, "guidance_scale")}
    given = {name: row[name] for name in one.takes if name in row}
    return Setting(duration_s, settings | given, system)


def _timing(suite: Suite, context: Context, setting: Setting) -> Job:
    text = context.texts(suite)[0]
    return TimingJob.of(context, setting, text=text, seeds=context.seeds(suite.settings.seeds))
