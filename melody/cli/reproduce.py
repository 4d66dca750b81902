"""``melody reproduce`` and ``report``: the paper's tables, filled, and rendered again."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from melody.bounds import MAX_RUN_SEED
from melody.cli.console import console, notes, progress_bar
from melody.cli.options import (
    DAY_S,
    DeviceOption,
    SetOption,
    SplitOption,
    StoreOption,
    ThreadsOption,
    VerboseOption,
    WeightsOption,
    a_number,
    preset_and_weights,
)
from melody.errors import MelodyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import Progress, TaskID

    from melody.config import Preset
    from melody.listening.schema import ListeningResult
    from melody.progress import PlainProgress
    from melody.reproduce.results import Results

SuitesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Suites or groups (demo-card) by name, or paths of TOML files; all suites if none is given."),
]
ReproduceSamplerOption = Annotated[
    list[str] | None,
    typer.Option(help="Exactly these samplers (repeat it), instead of the suites' own and every plug-in's."),
]
ReproduceGridOption = Annotated[
    list[str] | None,
    typer.Option(help="Exactly these angle schedules (repeat it), instead of the suites' own and every plug-in's."),
]
SystemsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--system",
        metavar="NAME[=WEIGHTS]|FILE.toml",
        help="A system to compare with (repeat it), as in musicgen=FOLDER_OR_HUB_ID or folder=CLIPS; "
        "see: melody components systems.",
    ),
]
RatingsOption = Annotated[
    Path | None, typer.Option(help="CSV file of listeners' answers about the systems (format: docs/listening.md).")
]
ReproduceSeedOption = Annotated[int, typer.Option(min=0, max=MAX_RUN_SEED, help="Added to every seed of a suite.")]
ReproduceOutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for results, page, tables and plots.")
]
PublishedSamplesOption = Annotated[
    Path | None,
    typer.Option(
        envvar="MELODY_PUBLISHED_SAMPLES",
        help="The authors' demo page as cloned, or a folder with its metadata.csv.",
    ),
]
SpeedPrecisionOption = Annotated[
    str, typer.Option("--precision", help="Of the speed table's networks: fp32, bf16 or fp16.")
]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--budget-s",
        min=1e-3,
        max=30 * DAY_S,
        callback=a_number,
        help="Seconds that the speed table may spend on each system.",
    ),
]
FullOption = Annotated[
    bool,
    typer.Option("--full", help="The long run: more prompts, seeds and steps; if no suite is named, all groups too."),
]


PresetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        "-p",
        metavar="NAME[=WEIGHTS]|FILE.toml[=WEIGHTS]",
        help="Preset of the run, with the folder of its weights if it is not --weights; each further one is a row "
        "beside it. \\[default: that of --weights if it has one, else demo]",
    ),
]


def _role_option(role: str) -> object:
    words = role.replace("_", " ")
    return typer.Option(
        f"--{role.replace('_', '-')}",
        metavar="NAME[=WEIGHTS]",
        help=f"Another {words} in the run's preset, as a row beside it (repeat it); WEIGHTS is a folder or hub id with "
        f"{role}.safetensors. See: melody components {role}s.",
    )


LanguageModelsOption = Annotated[list[str] | None, _role_option("language_model")]
CodecsOption = Annotated[list[str] | None, _role_option("codec")]
DenoisersOption = Annotated[list[str] | None, _role_option("denoiser")]


def reproduce(
    suites: SuitesArgument = None,
    preset: PresetsOption = None,
    set_: SetOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    sampler: ReproduceSamplerOption = None,
    grid: ReproduceGridOption = None,
    system: SystemsOption = None,
    language_model: LanguageModelsOption = None,
    codec: CodecsOption = None,
    denoiser: DenoisersOption = None,
    seed: ReproduceSeedOption = 0,
    store: StoreOption = None,
    output: ReproduceOutputOption = Path("melody-results"),
    published_samples: PublishedSamplesOption = None,
    ratings: RatingsOption = None,
    split: SplitOption = "test",
    precision: SpeedPrecisionOption = "fp32",
    budget_s: BudgetOption = 600.0,
    full: FullOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fill the paper's tables with measured numbers, each beside the paper's value and a verdict."""
    from melody.artifacts.store import Store
    from melody.report.write import write_report
    from melody.reproduce.runner import reproduce as run
    from melody.reproduce.suite import load_suites

    own, folder = _own_preset(preset or [], weights, set_ or [])
    chosen = load_suites(suites or (), full=full)
    _check_output(output)
    with progress_bar() as bar:
        task = bar.add_task("reproduce", total=None)
        results = run(
            chosen,
            preset=own,
            weights=folder,
            device=device,
            samplers=sampler or None,
            grids=grid or None,
            systems=system or (),
            presets=(preset or [])[1:],
            components={"language_model": language_model or (), "codec": codec or (), "denoiser": denoiser or ()},
            seed=seed,
            store=Store(store),
            output=output,
            published_samples=published_samples,
            split=split,
            ratings=_rated(ratings),
            precision=precision,
            budget_s=budget_s,
            progress=partial(_show, bar, task),
            tell=lambda line: notes.print(line, markup=False, highlight=False, soft_wrap=True),
            command=" ".join(["melody", *sys.argv[1:]]),
        )
        bar.update(task, completed=0, total=None, description="writing the report")
        pages = write_report(results, output)
    _print(results, pages, verbose)


def _rated(ratings: Path | None) -> ListeningResult | None:
    from melody.listening.analysis import analyse

    return None if ratings is None else analyse(ratings)


def _check_output(output: Path) -> None:
    """Raise ``MelodyError`` if no results can be written there."""
    from melody.artifacts.files import check_can_write

    check_can_write(next(folder for folder in (output, *output.absolute().parents) if folder.exists()) / "results.json")


def _print(results: Results, pages: Iterable[Path], verbose: bool) -> None:
    from melody.report.reproduction import reproduction
    from melody.report.terminal import print_document

    print_document(reproduction(results), console, verbose=verbose)
    if results.failures:
        raise MelodyError(f"{len(results.failures)} of the run's units of work failed: {results.failures[0]}")
    console.print(f"page: {escape(str(next(page for page in pages if page.suffix == '.html')))}")


def _show(bar: Progress | PlainProgress, task: TaskID, done: int, total: int, label: str) -> None:
    bar.update(task, completed=done, total=total or None, description=escape(label or "reproduce"))


def _own_preset(named: list[str], weights: str | None, changes: list[str]) -> tuple[Preset, Path | None]:
    """The run's own preset and the folder of its weights, if one is given."""
    name, given, where = (named or [""])[0].partition("=")
    if given and weights is not None:
        raise MelodyError(
            f"--preset {named[0]} and --weights were given: expected the weights of the run's preset once"
        )
    return preset_and_weights(name or None, where or weights, changes)


def report(
    results: Annotated[
        Path, typer.Argument(help="What reproduce, evaluate, compare or listening wrote as JSON; or a run's folder.")
    ],
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Write every table as JSON lines too.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Render a result again: terminal, Markdown, CSV, plots and one HTML page.

    Beside a run's results.json; beside any other file in a folder of its name, as in now-report.
    """
    from melody.report.terminal import print_document
    from melody.report.write import document_of, report_folder, write_report
    from melody.reproduce.results import load_results, results_file

    path = results_file(results)
    result = load_results(path)
    written = write_report(result, report_folder(result, path), jsonl=jsonl)
    print_document(document_of(result), console, verbose=verbose)
    for path in written:
        console.print(escape(str(path)), soft_wrap=True)
