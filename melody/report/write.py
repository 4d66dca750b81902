"""A run's report as files: Markdown, CSV, plots and one page, each written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

from melody.artifacts.files import write_bytes
from melody.report.document import Figure
from melody.report.extent import shown
from melody.report.frames import cells_csv, orderings_csv, targets_csv
from melody.report.markdown import render_markdown
from melody.report.page import render_page
from melody.report.plots.figures import draw
from melody.report.reproduction import reproduction
from melody.report.sounds import EMBED_BYTES, load_sounds
from melody.report.spectrograms import draw_beside
from melody.reproduce.results import Results, Table


def write_report(results: Results, folder: Path, *, embed_bytes: int = EMBED_BYTES) -> list[Path]:
    """Write REPORT.md, report.html, tables/*.csv and figures/*.png; the same results give the same bytes.

    Args:
        results: the run.
        folder: of its ``results.json``; sounds are looked for relative to it.
        embed_bytes: sounds are put into the page if all of them together are no larger; otherwise they are linked.

    Returns:
        The paths written.

    Raises:
        MelodyError: the folder cannot be written.
    """
    part = shown(results)
    names = file_names(part.tables)
    csv_paths = {suite: f"tables/{name}.csv" for suite, name in names.items()}
    files: dict[str, bytes] = {}
    for table, whole in zip(part.tables, results.tables, strict=False):
        files[csv_paths[table.suite]] = cells_csv(whole).encode()
        if whole.orderings:
            files[f"tables/{names[table.suite]}-orderings.csv"] = orderings_csv(whole).encode()
        if whole.targets:
            files[f"tables/{names[table.suite]}-targets.csv"] = targets_csv(whole).encode()
    figures = _figures(part, names, folder, files)
    document = reproduction(results, figures, load_sounds(part, folder, embed_bytes), csv_paths)
    files["REPORT.md"] = render_markdown(document).encode()
    files["report.html"] = render_page(document).encode()
    for path, content in files.items():
        write_bytes(folder / path, content)
    return [folder / path for path in files]


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


def file_names(tables: list[Table]) -> dict[str, str]:
    """A file name for each suite, safe whatever the suite is called.

    >>> file_names([Table(suite=name, title="", source="", cells=[]) for name in ("table2", "../a b", "A-b")])
    {'table2': 'table2', '../a b': 'a-b', 'A-b': 'A-b-2'}
    """
    names: dict[str, str] = {}
    for table in tables:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", table.suite).strip("-")[:80] or "table"
        taken = {name.lower() for name in names.values()}  # some file systems do not tell a from A
        name, number = slug, 2
        while name.lower() in taken:
            name, number = f"{slug}-{number}", number + 1
        names.setdefault(table.suite, name)
    return names
