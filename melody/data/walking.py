"""The files below a folder. Links are followed: hub caches, data under version control and other disks are links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from melody.data.corpus import InvalidFile


def walk(folder: Path) -> tuple[list[str], list[InvalidFile]]:
    """Names of the files below a folder, sorted, hidden ones left out; and what cannot be gone into or points nowhere.

    A link to a folder that it lies in is named, for it would be gone through for ever.
    """
    names: list[str] = []
    faults: list[InvalidFile] = []
    waiting = [(folder, frozenset[tuple[int, int]]())]
    while waiting:
        place, above = waiting.pop()
        try:
            identity = (os.stat(place).st_dev, os.stat(place).st_ino)
            if identity in above:
                faults.append(InvalidFile(_below(place, folder), "it is a link to a folder that it lies in"))
                continue
            for entry in _entries(place):
                if os.path.isdir(entry.path):
                    waiting.append((Path(entry.path), above | {identity}))
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    faults.append(InvalidFile(_below(Path(entry.path), folder), "it is a link to nothing"))
                else:
                    names.append(Path(entry.path).relative_to(folder).as_posix())
        except OSError as error:
            faults.append(InvalidFile(_below(place, folder), f"the folder cannot be read: {error.strerror}"))
    return sorted(names), faults


def _entries(place: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _below(path: Path, folder: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def printable(name: str) -> str:
    """A name for messages and JSON, whatever bytes it has."""
    return name.encode("utf-8", "backslashreplace").decode()
