"""The embedded corpus as a folder of files: clips as WAV, and their captions in ``metadata.csv``."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from pathlib import Path

from melody.data.audio import write_audio
from melody.data.corpus import Corpus, Progress
from melody.data.embedded import embedded_corpus
from melody.data.folders import METADATA
from melody.data.rendering import SAMPLE_RATE
from melody.errors import MelodyError

COLUMNS = ("file_name", "text", "tags")


def export_embedded(
    folder: Path, *, split: str = "test", num_clips: int | None = None, progress: Progress | None = None
) -> Corpus:
    """Write a split of the embedded corpus, its first clips if a number is given; whole or not at all.

    The folder is one that ``melody evaluate`` and ``melody train --data`` read, with ``metadata.csv`` as captions.

    Returns:
        The clips that were written.

    Raises:
        MelodyError: the folder is there and not empty, cannot be written, or the split is unknown.
    """
    check_free(folder)
    corpus = embedded_corpus(split, num_clips, progress=progress)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise MelodyError(f"cannot write {folder}: {error.strerror}") from None
    try:
        _write(corpus, scratch)
        scratch.chmod(0o755)
        os.replace(scratch, folder)  # an empty folder may be there
    except OSError as error:
        raise MelodyError(f"cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return corpus


def check_free(folder: Path) -> None:
    """Raise ``MelodyError`` unless the folder is a new or an empty one."""
    if folder.is_dir() and any(folder.iterdir()):
        raise MelodyError(f"{folder} is not empty: expected a new or an empty folder")
    if folder.exists() and not folder.is_dir():
        raise MelodyError(f"{folder} is a file: expected a new or an empty folder")


def _write(corpus: Corpus, folder: Path) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for clip in (corpus[number] for number in range(len(corpus))):
        name = f"{clip.identifier.rpartition('/')[2]}.wav"
        write_audio(folder / name, clip.audio.waveform(SAMPLE_RATE), SAMPLE_RATE)
        writer.writerow([name, clip.text, ",".join(clip.tags)])
    (folder / METADATA).write_text(buffer.getvalue(), encoding="utf-8")
