"""``melody generate``: music for a prompt, what follows a file, or a part of a file made anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from melody.bounds import MAX_GUIDANCE, MAX_SEED, MAX_STEPS
from melody.cli.console import console, progress_bar
from melody.cli.options import (
    DAY_S,
    DeviceOption,
    SetOption,
    SystemOption,
    ThreadsOption,
    WeightsOption,
    a_number,
    preset_and_weights,
)
from melody.errors import MelodyError
from melody.progress import PlainProgress
from melody.threads import every_free_core

PromptArgument = Annotated[str | None, typer.Argument(help="What the music should be, in words.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write: .wav or .flac.")]
PromptAudioOption = Annotated[
    Path | None, typer.Option(help="Music to be like, in the place of words: a file of any rate and length.")
]
ContinueFromOption = Annotated[
    Path | None, typer.Option(help="Go on where this file ends; written is the file and what follows.")
]
EditOption = Annotated[Path | None, typer.Option(help="The file to change, with --inpaint.")]
InpaintOption = Annotated[
    str | None, typer.Option(metavar="BEGIN:END", help="Seconds of the file to make anew, as in 3.0:6.5.")
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        min=1e-3, max=DAY_S, callback=a_number, help="Seconds of new audio; the preset's segment if not given."
    ),
]
ContinuationOption = Annotated[
    str | None,
    typer.Option(help="Algorithm 2 beyond a segment: fixed (known frames held) or as-printed. \\[default: fixed]"),
]
StepsOption = Annotated[int | None, typer.Option(min=1, max=MAX_STEPS, help="Sampler steps.")]
SamplerOption = Annotated[str | None, typer.Option(help="See: melody components samplers.")]
GridOption = Annotated[str | None, typer.Option(help="Angle schedule; see: melody components grids.")]
GuidanceScaleOption = Annotated[
    float | None, typer.Option(min=0, max=MAX_GUIDANCE, callback=a_number, help="1 is without guidance.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same bits on CPU.")]


def generate(
    prompt: PromptArgument = None,
    output: OutputOption = Path("melody.wav"),
    prompt_audio: PromptAudioOption = None,
    continue_from: ContinueFromOption = None,
    edit: EditOption = None,
    inpaint: InpaintOption = None,
    duration: DurationOption = None,
    continuation: ContinuationOption = None,
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    grid: GridOption = None,
    guidance_scale: GuidanceScaleOption = None,
    seed: SeedOption = 0,
    preset: SystemOption = None,
    set_: SetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Make music for a prompt, go on from a file, or make a part of a file anew; and write it to a file.

    With --continue-from and --edit the prompt may be left out: then the file is its own prompt.
    """
    from melody.data.audio import check_output, write_audio
    from melody.pipeline import MelodyPipeline, parse_span

    span = None if inpaint is None else parse_span(inpaint)
    _check_task(continue_from, edit, inpaint, duration, continuation)
    check_output(output)
    system, folder = preset_and_weights(preset, weights, set_ or ())
    pipeline = MelodyPipeline.from_preset(system, weights=folder, device=device)
    with progress_bar() as bar, every_free_core():
        common: dict[str, Any] = {
            "prompt_audio": prompt_audio,
            "num_steps": steps,
            "sampler": sampler,
            "grid": grid,
            "guidance_scale": guidance_scale,
            "seeds": seed,
            "progress": _parts_on(bar),
        }
        length: dict[str, Any] = {"duration_s": duration, "continuation": continuation or "fixed"}
        if span is not None and edit is not None:
            generation = pipeline.inpaint(edit, span, prompt, **common)
        elif continue_from is not None:
            generation = pipeline.continue_from(continue_from, prompt, **length, **common)
        else:
            generation = pipeline(prompt, **length, **common)
    write_audio(output, generation.waveform[0, 0], generation.sample_rate)
    new_s = span[1] - span[0] if span else duration or pipeline.preset.generation.segment_s
    _show_trace(output, generation, new_s)


def _parts_on(bar: Progress | PlainProgress) -> Callable[[str, int, int], None]:
    """A line of the bar for each part of the pipeline that reports."""
    tasks: dict[str, Any] = {}

    def show(part: str, done: int, total: int) -> None:
        if part not in tasks:
            tasks[part] = bar.add_task(part.replace("_", " "), total=total)
        bar.update(tasks[part], completed=done, total=total)

    return show


def _check_task(
    continue_from: Path | None, edit: Path | None, inpaint: str | None, duration: float | None, continuation: str | None
) -> None:
    """One task at a time, with all that it needs."""
    if (edit is None) != (inpaint is None):
        given, missing = ("--edit FILE", "--inpaint BEGIN:END")[:: 1 if inpaint is None else -1]
        raise MelodyError(f"{given} was given without {missing}: expected both")
    if edit is not None and continue_from is not None:
        raise MelodyError("--edit and --continue-from were given: expected one of the two")
    if edit is not None and duration is not None:
        raise MelodyError("--duration was given with --edit: an edited file keeps its length")
    if edit is not None and continuation is not None:
        raise MelodyError("--continuation was given with --edit: nothing is continued within a file")


def _show_trace(output: Path, generation: Any, new_s: float) -> None:
    trace = generation.trace
    length = generation.waveform.shape[-1] / generation.sample_rate
    spent = sum(trace.seconds.values())
    new = "" if new_s >= length else f"{new_s:.2f} s of it new, "
    table = Table("part", "forward passes", "weighted by guidance", "seconds")
    for part, seconds in trace.seconds.items():
        passes, weighted = trace.passes.get(part, "–"), trace.weighted_passes.get(part, "–")
        table.add_row(part.replace("_", " "), str(passes), str(weighted), f"{seconds:.2f}")
    console.print(table)
    console.print(
        f"{escape(str(output))}: {length:.2f} s at {generation.sample_rate} Hz, "
        f"{new}made in {spent:.2f} s ({new_s / spent:.2f}× real time)"
    )
