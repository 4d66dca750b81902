"""A result's report as files: Markdown, tables, plots and one page, each written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from melody.artifacts.files import write_bytes
from melody.listening.schema import ListeningResult
from melody.report.document import Document, Figure
from melody.report.evaluated import evaluated
from melody.report.extent import shown
from melody.report.frames import frames, to_csv, to_jsonl
from melody.report.listening import listened
from melody.report.markdown import render_markdown
from melody.report.page import render_page
from melody.report.plots.figures import draw
from melody.report.reproduction import reproduction
from melody.report.sounds import EMBED_BYTES, load_sounds
from melody.report.spectrograms import draw_beside
from melody.reproduce.results import RESULTS, AnyResult, Results

PAGE, MARKDOWN = "report.html", "REPORT.md"


def document_of(result: AnyResult, page: Path | None = None) -> Document:
    """What a result says; ``page`` is where a page will be, from which sounds are linked."""
    if isinstance(result, Results):
        return reproduction(result)
    return listened(result) if isinstance(result, ListeningResult) else evaluated(result, page)


def report_folder(result: AnyResult, path: Path) -> Path:
    """Where the report of a results file goes: beside a run's, and beside others in a folder of its own name.

    >>> from melody.evaluation.result import Evaluation
    >>> report_folder(Evaluation.model_construct(), Path("ci/now.json")).as_posix()
    'ci/now-report'
    """
    own = isinstance(result, Results) or path.name == RESULTS
    return path.parent if own else path.with_name(f"{path.stem}-report")


def write_report(result: AnyResult, folder: Path, *, embed_bytes: int = EMBED_BYTES, jsonl: bool = False) -> list[Path]:
    """Write REPORT.md, report.html, tables/*.csv and figures/*.png; the same result gives the same bytes.

    Args:
        result: of any kind.
        folder: of a run, the one of its ``results.json``: sounds are looked for relative to it.
        embed_bytes: a run's sounds are put into the page if all of them together are no larger; otherwise linked.
        jsonl: write tables/*.jsonl too.

    Returns:
        The paths written.

    Raises:
        MelodyError: the folder cannot be written.
    """
    files = _tables(result, jsonl)
    if isinstance(result, Results):
        document = _of_run(result, folder, embed_bytes, files)
    else:
        document = document_of(result, folder / PAGE)
    files[MARKDOWN] = render_markdown(document).encode()
    files[PAGE] = render_page(document).encode()
    for path, content in files.items():
        write_bytes(folder / path, content)
    return [folder / path for path in files]


def _tables(result: AnyResult, jsonl: bool) -> dict[str, bytes]:
    """Every data frame as CSV, and as JSONL if asked for, by path."""
    names = file_names([table.suite for table in result.tables]) if isinstance(result, Results) else {}
    files = {}
    for suite, part, frame in frames(result):
        path = f"tables/{names.get(suite, suite)}{'-' if part else ''}{part}"
        files[f"{path}.csv"] = to_csv(frame).encode()
        if jsonl:
            files[f"{path}.jsonl"] = to_jsonl(frame).encode()
    return files


def _of_run(results: Results, folder: Path, embed_bytes: int, files: dict[str, bytes]) -> Document:
    """With plots and sounds; the plots' PNG go to ``files``."""
    part = shown(results)
    names = file_names([table.suite for table in part.tables])
    figures = _figures(part, names, folder, files)
    csv_paths = {suite: f"tables/{name}.csv" for suite, name in names.items()}
    return reproduction(results, figures, load_sounds(part, folder, embed_bytes), csv_paths)


def _figures(part: Results, names: dict[str, str], folder: Path, files: dict[str, bytes]) -> dict[str, list[Figure]]:
    """Plots by suite, and pictures of sounds beside what they were made from; their PNG goes to ``files``."""
    figures: dict[str, list[Figure]] = {}
    for plot in draw(part):
        path = f"figures/{names[plot.suite]}-{plot.name}.png"
        files[path] = plot.png
        figures.setdefault(plot.suite, []).append(Figure(plot.question, plot.text, plot.svg, path))
    for table in part.tables:
        if (beside := draw_beside(table, folder)) is not None:
            path = f"figures/{names[table.suite]}-spectrograms.png"
            files[path] = beside[1]
            figures.setdefault(table.suite, []).append(Figure(BESIDE, beside[0], path=path))
    return figures


BESIDE = "What does a sound keep of what it was made from?"


def file_names(suites: Iterable[str]) -> dict[str, str]:
    """A file name for each suite, safe whatever the suite is called.

    >>> file_names(["table2", "../a b", "A-b"])
    {'table2': 'table2', '../a b': 'a-b', 'A-b': 'A-b-2'}
    """
    names: dict[str, str] = {}
    for suite in suites:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", suite).strip("-")[:80] or "table"
        taken = {name.lower() for name in names.values()}  # some file systems do not tell a from A
        name, number = slug, 2
        while name.lower() in taken:
            name, number = f"{slug}-{number}", number + 1
        names.setdefault(suite, name)
    return names
