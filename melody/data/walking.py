"""The files below a folder. Links are followed: hub caches, data under version control and other disks are links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path

from melody.data.corpus import InvalidFile


def walk(folder: Path) -> tuple[list[str], list[InvalidFile]]:
    """Names of the files below a folder, sorted, hidden ones left out; and what cannot be gone into or points nowhere.

    Every folder is gone through once, under the name with the fewest links in it. Another link to it is named: it
    would give every file twice, and one to a folder that it lies in would give them for ever.
    """
    names: list[str] = []
    faults: list[InvalidFile] = []
    seen: dict[tuple[int, int], str] = {}
    waiting = [(0, "", frozenset[tuple[int, int]]())]  # links in the name, name, folders that it lies in
    while waiting:
        links, name, above = heappop(waiting)
        try:
            status = os.stat(folder / name)
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                faults.append(InvalidFile(printable(name), _again(identity in above, seen[identity])))
                continue
            seen[identity] = name
            for entry in _entries(folder / name):
                below = Path(entry.path).relative_to(folder).as_posix()
                if os.path.isdir(entry.path):
                    heappush(waiting, (links + entry.is_symlink(), below, above | {identity}))
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    faults.append(InvalidFile(printable(below), "it is a link to nothing"))
                else:
                    names.append(below)
        except OSError as error:
            faults.append(InvalidFile(printable(name or "."), f"the folder cannot be read: {error.strerror}"))
    return sorted(names), faults


def _again(lies_in_it: bool, first: str) -> str:
    if lies_in_it:
        return "it is a link to a folder that it lies in"
    return f"it is a link to a folder that is read as {printable(first)}"


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def printable(name: str) -> str:
    """A name for messages and JSON, whatever bytes it has."""
    return name.encode("utf-8", "backslashreplace").decode()
