"""A run's report as files: Markdown, CSV, plots and one page, each written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

from melody.artifacts.files import write_bytes
from melody.report.extent import shown
from melody.report.frames import cells_csv, orderings_csv, targets_csv
from melody.report.markdown import render_markdown
from melody.report.page import render_page
from melody.report.plots.figures import Plot, draw
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
    plots = draw(part)
    pictures: dict[str, list[tuple[str, str]]] = {}
    files: dict[str, bytes] = {}
    for plot in plots:
        path = f"figures/{names[plot.suite]}-{plot.name}.png"
        files[path] = plot.png
        pictures.setdefault(plot.suite, []).append((plot.text, path))
    for table in part.tables:
        if (beside := draw_beside(table, folder)) is not None:
            path = f"figures/{names[table.suite]}-spectrograms.png"
            files[path] = beside[1]
            pictures.setdefault(table.suite, []).append((beside[0], path))
    csv_paths = {suite: f"tables/{name}.csv" for suite, name in names.items()}
    for table, whole in zip(part.tables, results.tables, strict=False):
        files[csv_paths[table.suite]] = cells_csv(whole).encode()
        if whole.orderings:
            files[f"tables/{names[table.suite]}-orderings.csv"] = orderings_csv(whole).encode()
        if whole.targets:
            files[f"tables/{names[table.suite]}-targets.csv"] = targets_csv(whole).encode()
    files["REPORT.md"] = render_markdown(results, pictures, csv_paths).encode()
    files["report.html"] = render_page(results, _by_suite(plots), load_sounds(part, folder, embed_bytes)).encode()
    for path, content in files.items():
        write_bytes(folder / path, content)
    return [folder / path for path in files]


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


def _by_suite(plots: list[Plot]) -> dict[str, list[Plot]]:
    found: dict[str, list[Plot]] = {}
    for plot in plots:
        found.setdefault(plot.suite, []).append(plot)
    return found
