"""Outcomes of units on disk: each is there whole or not at all, whatever happens to the process that writes it.

Layout::

    outcomes/KEY/            values.json, arrays.safetensors, *.flac, and MANIFEST with the SHA-256 of each
    temporary/KEY.XXXXXXXX/  an outcome that is being written; renamed when all of it is on the disk
    locks/KEY.lock           held while the unit is computed; the system frees it when the process dies
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load, save

from melody.artifacts.files import canonical
from melody.errors import MelodyError, StorageError
from melody.reproduce.jobs.job import Job, JobResult

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST"
VALUES = "values.json"
ARRAYS = "arrays.safetensors"
CLIP_SUFFIX = ".flac"


class Store:
    """A folder of outcomes by key, for any number of processes at once.

    Raises:
        StorageError: the folder cannot be made, written or read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._outcomes, self._temporary, self._locks = (self.folder / n for n in ("outcomes", "temporary", "locks"))
        with self._named_errors("use"):
            for part in (self._outcomes, self._temporary, self._locks):
                part.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()

    def read(self, unit: Job) -> JobResult | None:
        """The outcome of a unit, or ``None``; a damaged one is reported, removed, and not there either."""
        folder = self._outcomes / unit.key
        if not folder.is_dir():
            return None
        try:
            return _read(folder)
        except FileNotFoundError:
            if not folder.is_dir():  # another run has just removed a damaged entry
                return None
            problem = "a file is missing"
        except OSError as error:
            raise StorageError(f"cannot read the store {self.folder}: {error.strerror or error}") from None
        except (ValueError, SafetensorError) as error:
            problem = str(error)
        logger.warning("store: entry %s is damaged (%s); it is discarded and computed again", unit.key[:12], problem)
        with self._named_errors("write"):
            self._discard(folder)
        return None

    def write(self, unit: Job, outcome: JobResult) -> None:
        """Write an outcome whole or not at all; the caller holds the unit's claim."""
        files = _files(unit, outcome)
        with self._named_errors("write"):
            temporary = Path(tempfile.mkdtemp(prefix=f"{unit.key}.", dir=self._temporary))
            try:
                for name, content in files.items():
                    _write_through(temporary / name, content)
                os.chmod(temporary, 0o755)
                _sync_folder(temporary)
                if (self._outcomes / unit.key).exists():
                    self._discard(self._outcomes / unit.key)
                os.rename(temporary, self._outcomes / unit.key)
                _sync_folder(self._outcomes)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    @contextmanager
    def claim(self, unit: Job) -> Iterator[bool]:
        """Hold a unit for this process; gives ``False`` at once if another process holds it."""
        lock = FileLock(self._locks / f"{unit.key}.lock")
        with self._named_errors("write"):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                yield_mine = False
            else:
                yield_mine = True
        try:
            yield yield_mine
        finally:
            if yield_mine:
                lock.release()

    def _remove_leftovers(self) -> None:
        """Remove what writers left that died: a live one holds its unit's lock."""
        for leftover in self._temporary.iterdir():
            lock = FileLock(self._locks / f"{leftover.name.split('.')[0]}.lock")
            try:
                with lock.acquire(timeout=0):
                    shutil.rmtree(leftover, ignore_errors=True)
            except Timeout:
                continue

    def _discard(self, folder: Path) -> None:
        """Take an entry away in one step, so that nobody reads half of it, and then delete it."""
        grave = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=self._temporary))
        try:
            with suppress(FileNotFoundError):  # another run was quicker
                os.rename(folder, grave / "damaged")
        finally:
            shutil.rmtree(grave, ignore_errors=True)

    @contextmanager
    def _named_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot {verb} the store {self.folder}: {error.strerror or error}") from None


def _files(unit: Job, outcome: JobResult) -> dict[str, bytes]:
    files = {
        VALUES: canonical(
            {"kind": unit.kind, "config": unit.config, "values": outcome.values, "origin": outcome.origin}
        )
    }
    if outcome.arrays:
        files[ARRAYS] = save(dict(sorted(outcome.arrays.items())))
    for name, content in outcome.clips.items():
        if "/" in name or name.startswith("."):
            raise MelodyError(f"a clip's name is a plain file name, got {name!r}")
        files[f"{name}{CLIP_SUFFIX}"] = content
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return {**files, MANIFEST: "".join(lines).encode()}


def _read(folder: Path) -> JobResult | None:
    """Read an entry, or ``None`` if it does not say what computed it.

    Raises ``ValueError`` with what is wrong if a file is missing, extra or changed.
    """
    lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(expected) or VALUES not in present:
        raise ValueError(f"files {sorted(present)}, expected {sorted(expected)}")
    contents = {name: (folder / name).read_bytes() for name in expected}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != expected[name]:
            raise ValueError(f"{name} is not what was written")
    written = json.loads(contents[VALUES])
    if "origin" not in written:
        return None
    return JobResult(
        written["values"],
        load(contents[ARRAYS]) if ARRAYS in contents else {},
        {n.removesuffix(CLIP_SUFFIX): c for n, c in contents.items() if n.endswith(CLIP_SUFFIX)},
        written["origin"],
    )


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
