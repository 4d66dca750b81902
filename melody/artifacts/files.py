"""Files of ours: canonical JSON, hashes, and writing that leaves a file whole or as it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melody.errors import MelodyError, StorageError


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same content; raises ``MelodyError`` for what is not JSON.

    >>> canonical({"b": 1, "a": [0.5, "x"]})
    b'{"a":[0.5,"x"],"b":1}'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise MelodyError(f"not a JSON value: {error}") from None
    return text.encode()


def finite(value: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return value if math.isfinite(value) else None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all; raises ``StorageError`` if the folder cannot be written or the disk is full."""
    with storage_errors(f"write {path}"):
        replace_file(path, [content])


def replace_file(path: Path, chunks: Iterable[bytes | memoryview]) -> int:
    """Write a file from pieces, whole or not at all; gives its size, and raises ``OSError`` if it cannot be written."""
    temporary, size = None, 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            for chunk in chunks:
                size += file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too leaves nothing behind
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise
    return size


@contextmanager
def storage_errors(doing: str, remedy: str = "") -> Iterator[None]:
    """Turn an ``OSError`` inside into a ``StorageError``: ``cannot DOING: why``, and what to do about it."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {doing}: {error.strerror or error}{remedy}") from None


def check_can_write(path: Path) -> None:
    """Find out before hours of work whether a file could be written after them: by one beside it that is gone at once.

    Raises:
        MelodyError: the path is a folder, its folder is none or missing, cannot be written, or its disk is full.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise MelodyError(
            f"cannot write {path}: {'it is a folder' if path.is_dir() else f'there is no folder {folder}'}"
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise MelodyError(f"cannot write {path}: {error.strerror or error}") from None


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder whose files move into ``folder`` once all are written; after an error none of them is left."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished.")
    except OSError as error:
        raise MelodyError(f"cannot write to {folder}: {error.strerror or error}") from None
    try:
        with scratch as name:
            yield Path(name)
            for path in sorted(Path(name).iterdir()):
                os.replace(path, folder / path.name)
    except BaseException:
        if new and not any(folder.iterdir()):
            folder.rmdir()
        raise
