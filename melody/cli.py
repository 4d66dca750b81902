"""The ``melody`` command: a thin face on the library. Bad input is one line on stderr and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from melody import __version__
from melody.errors import MelodyError

app = typer.Typer(
    name="melody",
    help="MeLoDy Toolkit: generate music, reproduce the paper's tables, hold a generator to thresholds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130
"""What typer returns after Ctrl-C."""

console = Console()
notes = Console(stderr=True)

PresetOption = Annotated[str, typer.Option("--preset", "-p", help="Name of a preset, or the path of a TOML file.")]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        help="Name of a preset, or the path of a TOML file. [default: that of --weights if it has one, else demo]",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Folder of model files, or a hub id OWNER/NAME[@REVISION]; the preset's own if not given."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]


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
def components(
    kind: Annotated[str | None, typer.Argument(help="One kind only, as in samplers.")] = None,
) -> None:
    """List the registered components: name, where from, and what each is."""
    from melody.registry import REGISTRIES, registry

    chosen = [registry(kind)] if kind else list(REGISTRIES.values())
    for one in chosen:
        table = Table(
            "name", "from", "what it is", title=f"{one.kind}  (entry-point group {one.group})", title_justify="left"
        )
        for entry in one.entries():
            style = "red" if entry.error else None
            table.add_row(escape(entry.name), escape(entry.origin), escape(entry.sentence), style=style)
        console.print(table)


@app.command()
def describe(
    kind: Annotated[str, typer.Argument(help="Kind of component, as in samplers.")],
    name: Annotated[str, typer.Argument(help="Name of the component.")],
) -> None:
    """Show a component's parameters with their types and defaults."""
    import inspect

    from melody.registry import registry

    one = registry(kind)
    entry = one.entry(name)
    console.print(f"[bold]{escape(name)}[/bold]  ({one.label} from {escape(entry.origin)})\n")
    console.print(escape(inspect.getdoc(entry.component) or ""), "")
    table = Table("parameter", "type", "default")
    for parameter in one.parameters(name):
        default = "required" if parameter.default is ... else repr(parameter.default)
        table.add_row(escape(parameter.name), escape(parameter.type), escape(default))
    console.print(table)


@app.command()
def info(
    preset: PresetOption = "demo",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to a JSON file too.")] = None,
) -> None:
    """Show what a preset is made of: parameters beside the paper's, FLOPs and weights of every pass."""
    from melody.config import load_preset
    from melody.harness.sizes import sizes
    from melody.report.sizes import print_sizes
    from melody.weights import write_bytes

    found = sizes(load_preset(preset))
    print_sizes(found, console)
    if json_file is not None:
        write_bytes(json_file, (found.to_json() + "\n").encode())
        console.print(escape(str(json_file)))


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the music should be, in words.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .wav or .flac.")] = Path(
        "melody.wav"
    ),
    prompt_audio: Annotated[
        Path | None, typer.Option(help="Music to be like, in the place of words: a file of any rate and length.")
    ] = None,
    continue_from: Annotated[
        Path | None, typer.Option(help="Go on where this file ends; written is the file and what follows.")
    ] = None,
    edit: Annotated[Path | None, typer.Option(help="The file to change, with --inpaint.")] = None,
    inpaint: Annotated[
        str | None, typer.Option(metavar="BEGIN:END", help="Seconds of the file to make anew, as in 3.0:6.5.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of new audio; the preset's segment if not given.")
    ] = None,
    continuation: Annotated[
        str, typer.Option(help="Algorithm 2 beyond a segment: fixed (known frames held) or as-printed.")
    ] = "fixed",
    steps: Annotated[int | None, typer.Option(help="Sampler steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="See: melody components samplers.")] = None,
    grid: Annotated[str | None, typer.Option(help="Angle schedule; see: melody components grids.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 is without guidance.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits on CPU.")] = 0,
    preset: SystemOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Make music for a prompt, go on from a file, or make a part of a file anew; and write it to a file.

    With --continue-from and --edit the prompt may be left out: then the file is its own prompt.
    """
    from melody.data.audio import check_output, write_audio
    from melody.pipeline import MelodyPipeline, parse_span

    span = None if inpaint is None else parse_span(inpaint)
    _check_task(continue_from, edit, inpaint, duration)
    check_output(output)
    system, folder = _system(preset, weights)
    pipeline = MelodyPipeline.from_preset(system, weights=folder, device=device)
    with _progress() as bar:
        tasks: dict[str, Any] = {}

        def show(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bar.add_task(part.replace("_", " "), total=total)
            bar.update(tasks[part], completed=done, total=total)

        common: dict[str, Any] = {
            "prompt_audio": prompt_audio,
            "num_steps": steps,
            "sampler": sampler,
            "grid": grid,
            "guidance_scale": guidance_scale,
            "seeds": seed,
            "progress": show,
        }
        length: dict[str, Any] = {"duration_s": duration, "continuation": continuation}
        if span is not None and edit is not None:
            generation = pipeline.inpaint(edit, span, prompt, **common)
        elif continue_from is not None:
            generation = pipeline.continue_from(continue_from, prompt, **length, **common)
        else:
            generation = pipeline(prompt, **length, **common)
    write_audio(output, generation.waveform[0, 0], generation.sample_rate)
    new_s = span[1] - span[0] if span else duration or pipeline.preset.generation.segment_s
    _show_trace(output, generation, new_s)


def _system(preset: str | None, weights: str | None) -> tuple[Any, Path | None]:
    """The preset and the folder of its weights, if one is given."""
    from melody.config import preset_for
    from melody.hub import local_folder

    folder = None if weights is None else local_folder(weights)
    return preset_for(preset, folder), folder


def _check_task(continue_from: Path | None, edit: Path | None, inpaint: str | None, duration: float | None) -> None:
    """One task at a time, with all that it needs."""
    if (edit is None) != (inpaint is None):
        given, missing = ("--edit FILE", "--inpaint BEGIN:END")[:: 1 if inpaint is None else -1]
        raise MelodyError(f"{given} was given without {missing}: expected both")
    if edit is not None and continue_from is not None:
        raise MelodyError("--edit and --continue-from were given: expected one of the two")
    if edit is not None and duration is not None:
        raise MelodyError("--duration was given with --edit: an edited file keeps its length")


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
    stage: Annotated[
        str, typer.Argument(help="joint, rvq, semantic, lm, vae, dpd, or all, in the order of what each needs.")
    ],
    preset: PresetOption = "demo",
    data: Annotated[
        str, typer.Option(help="embedded, a folder of audio with a metadata.csv, or shards (see: melody shards).")
    ] = "embedded",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a corpus with unreadable, empty or duplicate files.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; a second call on it goes on where the first ended. [default: runs/PRESET]"),
    ] = None,
    denoiser: Annotated[
        str | None, typer.Option(help="Another denoiser in the seat, as for Table 5; see: melody components denoisers.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Folder with parts of earlier stages that the run folder has not.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed (Lightning's names), for all stages.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Parts into which each batch is cut, one after the other.")
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(min=0, help="Steps between held-out figures and sounds in TensorBoard; 0 is never.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto (Lightning's).")] = "cpu",
    devices: Annotated[str, typer.Option(help="Processes on this node, or auto (Lightning's).")] = "1",
    num_nodes: Annotated[int, typer.Option(help="Nodes (Lightning's).")] = 1,
    strategy: Annotated[str, typer.Option(help="auto, ddp, fsdp … (Lightning's).")] = "auto",
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="End early, after so many steps of a stage; a later call goes on.")
    ] = None,
) -> None:
    """Train one stage of a preset, or all of them."""
    from melody.config import load_preset

    loaded = load_preset(preset)
    try:
        from melody.training.hardware import Hardware
        from melody.training.shares import is_main
        from melody.training.stages import Run, adjusted
        from melody.training.stages import train as train_stage
    except ModuleNotFoundError as error:
        if error.name != "lightning":
            raise
        raise MelodyError('training needs lightning: pip install "melody-toolkit[train]"') from None
    hardware = Hardware(accelerator, devices, num_nodes, strategy)
    loaded = adjusted(
        loaded, denoiser=denoiser, precision=precision, accumulate=accumulate, validate_every=validate_every
    )
    run = Run(loaded, data, out or Path("runs") / loaded.name, hardware, strict=strict, weights=weights)
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
def shards(
    data: Annotated[str, typer.Argument(help="embedded, or a folder of audio with a metadata.csv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to be made for the tar files.")],
    shard_mb: Annotated[int, typer.Option(min=1, help="Begin a new tar file after so many million bytes.")] = 1000,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a corpus with unreadable, empty or duplicate files.")
    ] = False,
) -> None:
    """Write a corpus as webdataset shards, which `melody train --data` reads from any number of disks."""
    from melody.data.shards import whole_corpora, write_shards

    corpora = whole_corpora(data)
    for fault in corpora[0][1].faults:
        if strict:
            raise MelodyError(f"{len(corpora[0][1].faults)} files of {data} cannot be used: {fault.reason}")
        notes.print(f"left out: {fault.file}: {fault.reason}", markup=False, highlight=False, soft_wrap=True)
    with _progress() as bar:
        task = bar.add_task("shards", total=None)
        paths = write_shards(
            corpora,
            out,
            shard_bytes=shard_mb * 1_000_000,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{sum(len(corpus) for _, corpus in corpora)} clips in {len(paths)} shards: {escape(str(out))}")


@app.command()
def reproduce(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            help="Suites or groups (demo-card) by name, or paths of TOML files; all suites if none is given."
        ),
    ] = None,
    preset: SystemOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="Exactly these samplers (repeat it), instead of the suites' own and every plug-in's."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Added to every seed of a suite.")] = 0,
    store: Annotated[Path, typer.Option(help="Where known cells are kept; any number of runs may share it.")] = Path(
        ".melody/store"
    ),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results, page, tables and plots.")] = Path(
        "melody-results"
    ),
    published_samples: Annotated[
        Path | None,
        typer.Option(
            envvar="MELODY_PUBLISHED_SAMPLES",
            help="The authors' demo page as cloned, or a folder with its metadata.csv.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Held-out split of the embedded corpus: test, or validation to steer training by.")
    ] = "test",
) -> None:
    """Fill the paper's tables with measured numbers, each beside the paper's value and a verdict."""
    from melody.harness.runner import reproduce as run
    from melody.harness.store import Store
    from melody.harness.suite import load_suites
    from melody.report.terminal import print_results
    from melody.report.write import write_report

    system, folder = _system(preset, weights)
    chosen = load_suites(suites or ())
    with _progress() as bar:
        task = bar.add_task("reproduce", total=None)
        results = run(
            chosen,
            preset=system,
            weights=folder,
            device=device,
            samplers=sampler or None,
            seed=seed,
            store=Store(store),
            output=output,
            published_samples=published_samples,
            split=split,
            progress=lambda done, total, label: bar.update(
                task, completed=done, total=total, description=escape(label or "reproduce")
            ),
            command=" ".join(["melody", *sys.argv[1:]]),
        )
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
    from melody.harness.results import load_results
    from melody.report.terminal import print_results
    from melody.report.write import write_report

    path = _results_file(results)
    loaded = load_results(path)
    for written in write_report(loaded, path.parent):
        console.print(escape(str(written)))
    print_results(loaded, console)


@app.command()
def gate(
    results: Annotated[Path, typer.Argument(help="A results.json, or its folder.")],
    thresholds: Annotated[Path, typer.Option("--thresholds", "-t", help="TOML file, as in eval/thresholds.")],
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the checks as JUnit XML too.")] = None,
) -> int:
    """Hold results to thresholds: exit code 0 if all hold, 1 if some fall past, 2 on bad input."""
    from melody.harness.gate import gate as check
    from melody.harness.gate import load_thresholds, write_junit
    from melody.harness.results import load_results

    outcome = check(load_results(_results_file(results)), load_thresholds(thresholds))
    for one in outcome.checks:
        mark = "[green]holds[/green]" if one.passed else "[red]falls past[/red]"
        console.print(f"{mark}  {escape(one.line)}")
    if junit is not None:
        write_junit(outcome, junit)
    console.print(
        f"{len(outcome.checks) - len(outcome.failed)} hold, {len(outcome.failed)} fall past: {escape(outcome.title)}"
    )
    return 0 if outcome.passed else 1


def _results_file(path: Path) -> Path:
    return path / "results.json" if path.is_dir() else path


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=notes, transient=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a gate fell, 2 bad input or interrupted."""
    try:
        code = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except MelodyError as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away: nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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
        _fail(error.format_message())
    if code == INTERRUPTED:
        _fail("interrupted; what was finished is kept")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"melody: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
