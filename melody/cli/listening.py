"""``melody listening``: what raters answered in a pairwise listening test, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from melody.cli.console import console
from melody.cli.options import a_number
from melody.errors import MelodyError

app = typer.Typer(name="listening", help="Listening tests: analyse ratings.", no_args_is_help=True)


@app.callback()
def listening() -> None:
    """Listening tests: analyse what raters answered (format: docs/listening.md)."""


@app.command()
def analyse(
    ratings: Annotated[Path, typer.Argument(help="CSV file, one judgement a row (format: docs/listening.md).")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to a JSON file too.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots too.")] = None,
    max_failed: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            callback=a_number,
            help="Exclude raters who fail more than this share of their attention checks.",
        ),
    ] = 0.25,
) -> None:
    """Preference rates, strengths and agreement with intervals over raters; raters who fail checks are excluded."""
    from melody.artifacts.files import write_bytes
    from melody.listening.analysis import analyse as run
    from melody.report.listening import listened
    from melody.report.page import render_page
    from melody.report.terminal import print_document

    written = [path.resolve() for path in (json_file, html_file) if path is not None]
    if ratings.resolve() in written or len(set(written)) < len(written):
        raise MelodyError("the ratings, --json and --html are the same file: expected different ones")
    result = run(ratings, max_failed=max_failed)
    document = listened(result)
    files = []  # all that is to be written is made before the first file is
    if json_file is not None:
        files.append((json_file, result.to_json().encode()))
    if html_file is not None:
        files.append((html_file, render_page(document).encode()))
    for path, content in files:
        write_bytes(path, content)
    print_document(document, console)
    for path, _ in files:
        console.print(escape(str(path)), soft_wrap=True)
