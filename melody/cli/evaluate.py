"""``melody evaluate`` and ``melody compare``: folders of sounds, measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from melody.bounds import MAX_RUN_SEED
from melody.cli.console import console, notes, progress_bar
from melody.cli.options import DeviceOption, StoreOption, ThreadsOption, VerboseOption
from melody.errors import MelodyError, did_you_mean

if TYPE_CHECKING:
    from melody.evaluation.result import Comparison, Difference, Evaluation

GeneratedArgument = Annotated[Path, typer.Argument(help="Folder of wav, flac, ogg or mp3 files, of any rate.")]
FolderA = Annotated[Path, typer.Argument(help="Folder of one system's clips.")]
FolderB = Annotated[Path, typer.Argument(help="Folder of the other's, with the same names.")]
FailingMetrics = Annotated[
    list[str] | None,
    typer.Argument(metavar="[METRIC]...", help="With --fail-if-worse: those that A must not be worse by; else all."),
]
FailIfWorseOption = Annotated[
    bool, typer.Option("--fail-if-worse", help="Exit code 1 where A is worse than B, after Holm's correction.")
]
ReferenceOption = Annotated[
    Path | None, typer.Option("--reference", "-r", help="Folder to measure against: as a set, or pair by pair.")
]
CaptionsOption = Annotated[Path | None, typer.Option(help="CSV file with columns file_name and text.")]
MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="Name (repeat it); see: melody components metrics. \\[default: all it can]"),
]
EmbedderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--embedder",
        "-e",
        help="NAME, or NAME:argument=value,…; see: melody components audio_embedders. \\[default: mel-stats]",
    ),
]
TaggerOption = Annotated[
    list[str] | None, typer.Option(help="For metrics of labels; see: melody components audio_taggers.")
]
JointOption = Annotated[
    str, typer.Option(help="Joint model for metrics of texts: a preset, a folder of model files, or OWNER/NAME.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write everything to a JSON file.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write one page with tables, plot and players.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out what cannot be scored, list it and go on; else exit code 2.")
]
OverlapOption = Annotated[
    bool,
    typer.Option(
        "--allow-overlap", help="Measure though two of the folders share clips, and tell it; else exit code 2."
    ),
]
EvaluationSeedOption = Annotated[int, typer.Option(min=0, max=MAX_RUN_SEED, help="Of groups, bootstraps and controls.")]


def evaluate(
    generated: GeneratedArgument,
    reference: ReferenceOption = None,
    captions: CaptionsOption = None,
    metric: MetricOption = None,
    embedder: EmbedderOption = None,
    tagger: TaggerOption = None,
    joint: JointOption = "demo",
    json_file: JsonOption = None,
    html: HtmlOption = None,
    skip_bad: SkipBadOption = False,
    allow_overlap: OverlapOption = False,
    seed: EvaluationSeedOption = 0,
    store: StoreOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Measure a folder of sounds, whoever made them: every number with its interval and its controls."""
    _check_outputs(json_file, html, captions)
    from melody.evaluation.evaluate import evaluate as run

    with _progress("evaluate") as progress:
        result = run(
            generated,
            reference=reference,
            captions=captions,
            metrics=metric,
            embedders=embedder or ("mel-stats",),
            taggers=tagger or (),
            joint=joint,
            skip_bad=skip_bad,
            allow_overlap=allow_overlap,
            seed=seed,
            store=store,
            device=device,
            progress=progress,
            command=" ".join(["melody", *sys.argv[1:]]),
        )
    _deliver(result, json_file, html, verbose)


def compare(
    a: FolderA,
    b: FolderB,
    failing: FailingMetrics = None,
    fail_if_worse: FailIfWorseOption = False,
    reference: ReferenceOption = None,
    captions: CaptionsOption = None,
    metric: MetricOption = None,
    embedder: EmbedderOption = None,
    tagger: TaggerOption = None,
    joint: JointOption = "demo",
    json_file: JsonOption = None,
    html: HtmlOption = None,
    skip_bad: SkipBadOption = False,
    allow_overlap: OverlapOption = False,
    seed: EvaluationSeedOption = 0,
    store: StoreOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    verbose: VerboseOption = False,
) -> int:
    """Compare two systems on the same prompts: paired differences with intervals, p-values and Holm's correction."""
    _check_outputs(json_file, html, captions)
    _check_failing(failing or [], fail_if_worse)
    from melody.evaluation.compare import compare as run

    with _progress("compare") as progress:
        result = run(
            a,
            b,
            reference=reference,
            captions=captions,
            metrics=metric,
            embedders=embedder or ("mel-stats",),
            taggers=tagger or (),
            joint=joint,
            skip_bad=skip_bad,
            allow_overlap=allow_overlap,
            seed=seed,
            store=store,
            device=device,
            progress=progress,
            command=" ".join(["melody", *sys.argv[1:]]),
        )
    _deliver(result, json_file, html, verbose)
    if not fail_if_worse:
        return 0
    worse = _worse(result, failing)
    for row in worse:
        console.print(
            f"[red]worse[/red]  {escape(row.name)}: {row.a:.6g}, {row.b:.6g} in B; p {row.p_holm:.2g} by Holm"
        )
    return 1 if worse else 0


def _check_failing(failing: list[str], fail_if_worse: bool) -> None:
    """Refuse, before the folders are measured, names that cannot be worse."""
    from melody.registry import metrics

    if failing and not fail_if_worse:
        raise MelodyError(f"{failing[0]!r} was given without --fail-if-worse: expected two folders")
    for name in failing:
        plain = name.partition("[")[0]
        if plain not in metrics.names():
            raise MelodyError(f"unknown metric {name!r}{did_you_mean(plain, metrics.names())}")
        if metrics.get(plain).direction == "none":
            raise MelodyError(f"metric {name!r} has no better direction: expected one that has")


def _worse(result: Comparison, names: list[str] | None) -> list[Difference]:
    """The rows by which A is worse; raises ``MelodyError`` for a named metric that was not compared."""
    for row in result.rows(names or []):
        if row.p_holm is None:
            raise MelodyError(f"{row.name} was not compared: {row.reason or 'it has no p-value'}")
    return [row for row in (result.rows(names) if names else result.differences) if row.better == "b"]


def _check_outputs(json_file: Path | None, html: Path | None, captions: Path | None) -> None:
    """Refuse, before hours of work, what could not be written after them, or would overwrite what is read."""
    from melody.artifacts.files import check_can_write

    files = [path.resolve() for path in (json_file, html, captions) if path is not None]
    if len(set(files)) < len(files):
        raise MelodyError("--json, --html and --captions name one file twice: expected different ones")
    for path in (json_file, html):
        if path is not None:
            check_can_write(path)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar; and a line on stderr for every file that cannot be scored, before the error that sums them up."""
    from melody.evaluation.skipped import BadInputError

    try:
        with progress_bar() as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total, label: bar.update(
                task, completed=done, total=total, description=escape(label or name)
            )
    except BadInputError as error:
        for invalid in error.skipped:
            by = f" ({', '.join(invalid.metrics)})" if invalid.metrics else ""
            notes.print(f"{invalid.file}{by}: {invalid.reason}", markup=False, highlight=False, soft_wrap=True)
        raise


def _deliver(result: Evaluation | Comparison, json_file: Path | None, html: Path | None, verbose: bool) -> None:
    from melody.artifacts.files import write_bytes
    from melody.report.evaluated import evaluated
    from melody.report.page import render_page
    from melody.report.terminal import print_document

    if json_file is not None:
        result.save(json_file)
    document = evaluated(result, html)
    if html is not None:
        write_bytes(html, render_page(document).encode())
    print_document(document, console, verbose=verbose)
    if json_file is not None:
        console.print(escape(str(json_file)), soft_wrap=True)
    if html is not None:
        console.print(f"page: {escape(str(html))}", soft_wrap=True)
