"""The ``melody`` command: a thin face on the library. Bad input is one line on stderr and exit code 2."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from melody import __version__
from melody.bounds import shown
from melody.cli import data, listening
from melody.cli.cache import cache
from melody.cli.components import check_plugin, components, describe
from melody.cli.console import console, drop, notes, progress_bar, say_what_streams_can, show_own_warnings
from melody.cli.evaluate import compare, evaluate
from melody.cli.gate import gate
from melody.cli.options import (
    AcceleratorOption,
    AccumulateOption,
    BudgetOption,
    ContinuationOption,
    ContinueFromOption,
    DataOption,
    DenoiserOption,
    DeviceOption,
    DevicesOption,
    DurationOption,
    EditOption,
    FullOption,
    GridOption,
    GuidanceScaleOption,
    InpaintOption,
    NumNodesOption,
    OutOption,
    OutputOption,
    PrecisionOption,
    PresetOption,
    PromptArgument,
    PromptAudioOption,
    PublishedSamplesOption,
    RatingsOption,
    ReproduceOutputOption,
    ReproduceSamplerOption,
    ReproduceSeedOption,
    SamplerOption,
    SeedOption,
    SpeedPrecisionOption,
    SplitOption,
    StageArgument,
    StepsOption,
    StopAfterOption,
    StoreOption,
    StrategyOption,
    StrictOption,
    SuitesArgument,
    SystemOption,
    SystemsOption,
    ThreadsOption,
    TrainSeedOption,
    TrainSystemOption,
    TrainWeightsOption,
    ValidateEveryOption,
    WeightsOption,
)
from melody.errors import MelodyError
from melody.extras import lacking
from melody.progress import PlainProgress
from melody.threads import every_free_core, fix_patiently, govern

app = typer.Typer(
    name="melody",
    help="MeLoDy Toolkit: generate music, reproduce the paper's tables, hold a generator to thresholds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(listening.app)
app.add_typer(data.app)
INTERRUPTED = 130
"""What typer returns after Ctrl-C."""


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"melody {__version__}")
        raise typer.Exit


@app.callback()
def melody(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """MeLoDy Toolkit."""


@app.command()
def info(
    preset: PresetOption = "demo",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to a JSON file too.")] = None,
) -> None:
    """Show what a preset is made of: parameters beside the paper's, FLOPs and weights of every pass."""
    from melody.artifacts.files import check_can_write, write_bytes
    from melody.config import load_preset
    from melody.report.sizes import print_sizes
    from melody.reproduce.sizes import sizes

    if json_file is not None:
        check_can_write(json_file)
    found = sizes(load_preset(preset))
    if json_file is not None:
        write_bytes(json_file, (found.to_json() + "\n").encode())
    print_sizes(found, console)
    if json_file is not None:
        console.print(escape(str(json_file)))


@app.command()
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
    system, folder = _system(preset, weights)
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


def _system(preset: str | None, weights: str | None) -> tuple[Any, Path | None]:
    """The preset and the folder of its weights, if one is given."""
    from melody.artifacts.hub import local_folder
    from melody.config import preset_for

    folder = None if weights is None else local_folder(weights)
    return preset_for(preset, folder), folder


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


@app.command()
def train(
    stage: StageArgument,
    system: TrainSystemOption = "melody",
    preset: PresetOption = "demo",
    data: DataOption = "embedded",
    strict: StrictOption = False,
    out: OutOption = None,
    denoiser: DenoiserOption = None,
    weights: TrainWeightsOption = None,
    seed: TrainSeedOption = None,
    precision: PrecisionOption = None,
    accumulate: AccumulateOption = None,
    validate_every: ValidateEveryOption = None,
    accelerator: AcceleratorOption = "cpu",
    devices: DevicesOption = "1",
    num_nodes: NumNodesOption = 1,
    strategy: StrategyOption = "auto",
    stop_after: StopAfterOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train one stage of a preset, or all of them."""
    fix_patiently()
    try:
        from melody.config import load_preset
        from melody.training.baselines import stage_graph
        from melody.training.hardware import Hardware
        from melody.training.shares import is_main
        from melody.training.stages import TrainingRun, adjusted, with_settings
        from melody.training.stages import train as train_stage
    except ModuleNotFoundError as error:
        if error.name != "lightning":
            raise
        raise MelodyError(lacking(["lightning"], "training")) from None
    hardware = Hardware(accelerator, devices, num_nodes, strategy)
    graph = stage_graph(system)
    loaded = with_settings(
        load_preset(preset, graph.preset_type),
        seed=seed,
        precision=precision,
        accumulate=accumulate,
        validate_every=validate_every,
    )
    if denoiser is not None:
        if system != "melody":
            raise MelodyError(f"--denoiser was given with --system {system}: only melody's preset has that role")
        loaded = adjusted(loaded, denoiser=denoiser)
    folder = out or Path("runs") / (loaded.name if system == "melody" else f"{system}-{loaded.name}")
    run = TrainingRun(loaded, data, folder, hardware, strict=strict, weights=weights, plan=graph)
    if is_main():
        for line in run.left_out():
            notes.print(f"left out: {line}", markup=False, highlight=False, soft_wrap=True)
    train_stage(stage, run, stop_after=stop_after)
    if is_main() and (run.folder / "weights").is_dir():
        console.print(f"weights and card: {escape(str(run.folder / 'weights'))}")


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run folder, its weights, a stage's folder, or a checkpoint.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write: melody generate --weights FOLDER uses it.")],
    part: Annotated[
        str | None, typer.Option(help="One part only, as in denoiser; from the last checkpoint if its stage goes on.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="If the run does not tell: name, or path of a TOML file.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the stored values: float16 or float32.")] = "float16",
) -> None:
    """Turn what training left into model files: safetensors, config and card, for the hub or a colleague."""
    from melody.config import load_preset
    from melody.training.export import export as run

    loaded = None if preset is None else load_preset(preset)
    for line in run(source, out, part=part, preset=loaded, dtype=dtype):  # type: ignore[arg-type]
        console.print(escape(line))
    console.print(f"model files: {escape(str(out))}")


@app.command()
def reproduce(
    suites: SuitesArgument = None,
    preset: SystemOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    sampler: ReproduceSamplerOption = None,
    system: SystemsOption = None,
    seed: ReproduceSeedOption = 0,
    store: StoreOption = None,
    output: ReproduceOutputOption = Path("melody-results"),
    published_samples: PublishedSamplesOption = None,
    ratings: RatingsOption = None,
    split: SplitOption = "test",
    precision: SpeedPrecisionOption = "fp32",
    budget_s: BudgetOption = 600.0,
    full: FullOption = False,
) -> None:
    """Fill the paper's tables with measured numbers, each beside the paper's value and a verdict."""
    from melody.artifacts.files import check_can_write
    from melody.artifacts.store import Store
    from melody.listening.analysis import analyse
    from melody.report.terminal import print_results
    from melody.report.write import write_report
    from melody.reproduce.runner import reproduce as run
    from melody.reproduce.suite import load_suites

    own, folder = _system(preset, weights)
    chosen = load_suites(suites or (), full=full)
    check_can_write(next(place for place in (output, *output.absolute().parents) if place.exists()) / "results.json")
    with progress_bar() as bar:
        task = bar.add_task("reproduce", total=None)
        results = run(
            chosen,
            preset=own,
            weights=folder,
            device=device,
            samplers=sampler or None,
            systems=system or (),
            seed=seed,
            store=Store(store),
            output=output,
            published_samples=published_samples,
            split=split,
            ratings=None if ratings is None else analyse(ratings),
            precision=precision,
            budget_s=budget_s,
            progress=lambda done, total, label: bar.update(
                task, completed=done, total=total or None, description=escape(label or "reproduce")
            ),
            tell=lambda line: notes.print(line, markup=False, highlight=False, soft_wrap=True),
            command=" ".join(["melody", *sys.argv[1:]]),
        )
        bar.update(task, completed=0, total=None, description="writing the report")
        pages = write_report(results, output)
    print_results(results, console)
    if results.failures:
        raise MelodyError(f"{len(results.failures)} of the run's units of work failed: {results.failures[0]}")
    console.print(f"page: {escape(str(next(page for page in pages if page.suffix == '.html')))}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="A results.json, or its folder.")],
) -> None:
    """Render results again: terminal, Markdown, CSV, plots and one HTML page beside them."""
    from melody.report.terminal import print_results
    from melody.report.write import write_report
    from melody.reproduce.results import Results, load_results, results_file

    path = results_file(results)
    loaded = load_results(path)
    if not isinstance(loaded, Results):
        raise MelodyError(
            f"{path} is of kind {loaded.kind!r}: expected a reproduction; --html writes the others' pages"
        )
    written = write_report(loaded, path.parent)
    for one in written:
        console.print(escape(str(one)))
    print_results(loaded, console)


app.command()(components)
app.command()(describe)
app.command(name="check-plugin")(check_plugin)
app.command()(cache)
app.command()(evaluate)
app.command()(compare)
app.command()(gate)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a gate or a check fell, 2 bad input or interrupted."""
    say_what_streams_can()
    show_own_warnings()
    govern()
    try:
        code = app(args=arguments, standalone_mode=False)
    except MelodyError as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # What no console of ours printed, as typer's help: nothing is wrong, and nothing more can be said.
        drop(sys.stdout)
        sys.exit(0)
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        sys.exit(0)  # rich says 1 where the reader of typer's help went away
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"cannot use {error.filename or 'the disk'}: {error.strerror}")
    except Exception as error:
        # typer's usage errors, whichever click it is built on; everything else is a bug and keeps its stack trace
        if not hasattr(error, "format_message"):
            raise
        if not error.format_message():  # no arguments: the help was shown
            sys.exit(2)
        _fail(_usage(error))
    if code == INTERRUPTED:
        _fail("interrupted; what was finished is kept")
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """What is wrong with an argument, and what was given where typer had pydantic check it and does not say."""
    from pydantic import ValidationError

    message: str = error.format_message()
    if not isinstance(error.__cause__, ValidationError):
        return message
    first = error.__cause__.errors()[0]
    return message if first["type"] == "value_error" else f"{message}, got {shown(first['input'])}"


def _fail(message: str) -> NoReturn:
    print(f"melody: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
