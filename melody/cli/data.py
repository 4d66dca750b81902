"""``melody data``: corpora as folders and as shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from melody.cli.console import console, notes, progress_bar
from melody.cli.options import SplitOption, StrictOption
from melody.errors import MelodyError

app = typer.Typer(name="data", help="Corpora: export the embedded one, write shards.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Corpora as folders and as shards."""


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to be made.")],
    split: SplitOption = "test",
    clips: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Its first clips only. \\[default: all of the split]")
    ] = None,
) -> None:
    """Write clips of the embedded corpus and their captions as a folder: wav files and a metadata.csv."""
    from melody.data.exporting import export_embedded
    from melody.data.folders import METADATA

    with progress_bar() as bar:
        task = bar.add_task("clips", total=clips)
        corpus = export_embedded(
            folder,
            split=split,
            num_clips=clips,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    path = escape(str(folder))
    console.print(f"{len(corpus)} clips of {escape(corpus.name)}: {path}, captions: {path}/{METADATA}", soft_wrap=True)


@app.command()
def shards(
    data: Annotated[str, typer.Argument(help="embedded, or a folder of audio with a metadata.csv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to be made for the tar files.")],
    shard_mb: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Begin a new tar file after so many million bytes.")
    ] = 1000,
    strict: StrictOption = False,
) -> None:
    """Write a corpus as webdataset shards, which `melody train --data` reads from any number of disks."""
    from melody.data.loading import whole_corpora
    from melody.data.shards import write_shards

    corpora = whole_corpora(data)
    for fault in corpora[0][1].faults:
        if strict:
            raise MelodyError(f"{len(corpora[0][1].faults)} files of {data} cannot be used: {fault.reason}")
        notes.print(f"left out: {fault.file}: {fault.reason}", markup=False, highlight=False, soft_wrap=True)
    if unlisted := corpora[0][1].left_out:
        told = f"left out: {len(unlisted)} audio files of {data} are not in its metadata.csv: {', '.join(unlisted)}"
        notes.print(told, markup=False, highlight=False, soft_wrap=True)
    with progress_bar() as bar:
        task = bar.add_task("shards", total=None)
        paths = write_shards(
            corpora,
            out,
            shard_bytes=shard_mb * 1_000_000,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{sum(len(corpus) for _, corpus in corpora)} clips in {len(paths)} shards: {escape(str(out))}")
