"""What was computed before, in one folder: by kind and key, each entry whole or not at all, the whole bounded in size.

Layout::

    KIND/KE/KEY.safetensors   arrays; in its metadata facts (JSON) and the digest of both
    locks/KIND-KEY.lock       held while an entry is computed; the system frees it when the process dies
    limit                     bytes that it may hold, if they were set

A key is a hash of all that decides the entry. An entry is written beside its place and renamed, so any number of
processes may share a store and any of them may be killed. One that is damaged is reported, removed and computed again.
Beyond the limit the least recently used go first, but none that was used since this process began.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from melody.artifacts.files import canonical, replace_file, storage_errors, write_bytes
from melody.errors import MelodyError, StorageError, did_you_mean
from melody.paths import cache_dir

logger = logging.getLogger(__name__)

KINDS = {
    "results": "jobs of melody reproduce",
    "features": "clips that melody evaluate and compare measured",
    "training": "tokens, latents and embeddings that networks learn from",
    "classifiers": "judges of attributes",
    "corpus": "rendered clips of the embedded corpus",
}
DEFAULT_LIMIT = 20 * 1024**3
"""Ours: the embedded corpus and what is learnt from it are 5 GB, and 400,000 clips of 10 s by VGGish another 4."""
LIMIT_FILE = "limit"
SUFFIX = ".safetensors"
LEFTOVER_AGE_S = 3_600
"""A file that is being written is younger; an older one was left by a process that died."""
SHARE_BETWEEN_COUNTS = 16
"""The folder is counted anew when a process has written this part of the limit: so that two together stay within."""
BEGAN = time.time()
"""Entries that were used later are in use, and are not evicted."""


@dataclass(frozen=True)
class Record:
    """What an entry holds: arrays by name, and facts, which are JSON."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Store:
    """A folder of entries by kind and key, for any number of processes at once.

    Args:
        folder: by default ``store`` in the user's cache, which ``MELODY_CACHE`` moves.
        limit_bytes: most that it may hold; by default what ``melody cache --limit`` set, else 20 GiB.
    Raises:
        StorageError: the folder cannot be made, written or read.
    """

    def __init__(self, folder: str | Path | None = None, limit_bytes: int | None = None) -> None:
        self._remedy = "; MELODY_CACHE moves it" if folder is None else ""
        with storage_errors(f"use the store {folder or 'in the cache'}", self._remedy):
            self.folder = cache_dir("store") if folder is None else Path(folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        self.limit_bytes = self._stored_limit() if limit_bytes is None else limit_bytes
        self._written: int | None = None

    def read(self, kind: str, key: str) -> Record | None:
        """An entry, or ``None``; a damaged one is reported, removed, and not there either."""
        path = self._path(kind, key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read the store {self.folder}: {error.strerror or error}") from None
        try:
            record = _parsed(content)
        except (SafetensorError, ValueError, KeyError) as error:
            self._discard(path, str(error).splitlines()[0])
            return None
        _touch(path)
        return record

    def write(self, kind: str, key: str, record: Record) -> None:
        """Write an entry, in the place of what was there."""
        arrays = {name: np.asarray(array, order="C") for name, array in sorted(record.arrays.items())}
        facts = canonical(record.facts).decode()
        self._put(self._path(kind, key), [save(arrays, {"facts": facts, "digest": _digest(arrays, facts)})])

    def merge(self, kind: str, key: str, record: Record) -> None:
        """Add to an entry what another process may have added to as well."""
        with self._lock(kind):
            there = self.read(kind, key) or Record()
            self.write(kind, key, Record(there.arrays | record.arrays, there.facts | record.facts))

    def mapped(self, kind: str, key: str, chunks: Callable[[], Iterable[bytes]]) -> Path:
        """The file of an entry that may be larger than memory, to be read through a memory map.

        It is checked to be whole, and its digest is not. One process writes it, others that want the same wait.

        Args:
            chunks: the content of a safetensors file in pieces, asked for if there is none.
        """
        path = self._path(kind, key)
        if not self._is_whole(path):
            with self._lock(f"{kind}-{key}"):
                if not self._is_whole(path):
                    self._put(path, chunks())
        _touch(path)
        return path

    def claim(self, kind: str, key: str) -> AbstractContextManager[bool]:
        """Hold an entry for this process; gives ``False`` at once if another process holds it."""
        return self._lock(f"{kind}-{key}", timeout_s=0)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Entries and bytes by kind, the largest first."""
        by_kind: dict[str, tuple[int, int]] = {}
        for path, size, _ in self._entries():
            count, so_far = by_kind.get(_kind_of(path), (0, 0))
            by_kind[_kind_of(path)] = (count + 1, so_far + size)
        return dict(sorted(by_kind.items(), key=lambda kind: -kind[1][1]))

    def clear(self, kind: str | None = None) -> tuple[int, int]:
        """Remove every entry, or those of a kind; gives their number and bytes."""
        if kind is not None:
            check_kind(kind)
        removed = [(path, size) for path, size, _ in self._entries() if kind in (None, _kind_of(path))]
        with storage_errors(f"write the store {self.folder}"):
            for path, _ in removed:
                path.unlink(missing_ok=True)
        return len(removed), sum(size for _, size in removed)

    def set_limit(self, limit_bytes: int) -> None:
        """Keep a limit for this and later runs, and come under it now."""
        if limit_bytes < 0:
            raise MelodyError(f"the store's limit is {limit_bytes} bytes; expected 0 or more")
        write_bytes(self.folder / LIMIT_FILE, str(limit_bytes).encode())
        self.limit_bytes = limit_bytes
        self.evict()

    def evict(self) -> None:
        """Remove the least recently used entries that are not in use, until the others are within the limit."""
        with self._lock("evict"):
            entries = sorted(self._entries(), key=lambda entry: entry[2])
            total = sum(size for _, size, _ in entries)
            room = self.limit_bytes // SHARE_BETWEEN_COUNTS
            goal = self.limit_bytes - 4 * room if total > self.limit_bytes - 2 * room else total
            for path, size, used in entries:
                if total <= goal or used >= BEGAN:
                    break
                path.unlink(missing_ok=True)
                total -= size
        self._written = 0

    def _put(self, path: Path, chunks: Iterable[bytes]) -> None:
        with storage_errors(f"write the store {self.folder}", self._remedy):
            size = replace_file(path, chunks)
        if self._written is None or self._written + size >= self.limit_bytes // SHARE_BETWEEN_COUNTS:
            self.evict()
        else:
            self._written += size

    def _is_whole(self, path: Path) -> bool:
        try:
            with safe_open(path, framework="np"):
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"cannot read the store {self.folder}: {error.strerror or error}") from None
        except SafetensorError as error:
            self._discard(path, str(error).splitlines()[0])
            return False

    def _discard(self, path: Path, problem: str) -> None:
        told = "store: entry %s of %s is damaged (%s); it is discarded and computed again"
        logger.warning(told, path.stem[:12], _kind_of(path), problem)
        with suppress(OSError):  # a store that may only be read still serves
            path.unlink(missing_ok=True)

    @contextmanager
    def _lock(self, name: str, timeout_s: float = -1) -> Iterator[bool]:
        with storage_errors(f"write the store {self.folder}", self._remedy):
            lock = FileLock(self.folder / "locks" / f"{name}.lock")
            (self.folder / "locks").mkdir(exist_ok=True)
            with suppress(Timeout):
                lock.acquire(timeout=timeout_s)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """Path, bytes and time of last use of each entry; what dead writers left is removed on the way."""
        for path in self.folder.glob(f"*/*/*{SUFFIX}*"):
            with suppress(FileNotFoundError):  # another process was quicker
                stat = path.stat()
                if not path.name.startswith("."):
                    yield path, stat.st_size, stat.st_mtime
                elif time.time() - stat.st_mtime > LEFTOVER_AGE_S:
                    path.unlink()

    def _path(self, kind: str, key: str) -> Path:
        assert kind in KINDS
        return self.folder / kind / key[:2] / f"{key}{SUFFIX}"

    def _stored_limit(self) -> int:
        path = self.folder / LIMIT_FILE
        try:
            return int(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return DEFAULT_LIMIT
        except (OSError, ValueError):
            raise MelodyError(
                f"cannot read the store's limit in {path}; set it anew with melody cache --limit"
            ) from None


def check_kind(kind: str) -> None:
    """Raise ``MelodyError`` for a kind that no store has."""
    if kind not in KINDS:
        raise MelodyError(f"the store has no kind {kind!r}{did_you_mean(kind, KINDS)}")


def _kind_of(path: Path) -> str:
    return path.parent.parent.name


def _touch(path: Path) -> None:
    with suppress(OSError):  # a store that may only be read still serves
        os.utime(path)


def _parsed(content: bytes) -> Record:
    """Read an entry; raises ``ValueError``, ``KeyError`` or ``SafetensorError`` if it is not what was written."""
    arrays = load(content)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    if metadata["digest"] != _digest(arrays, metadata["facts"]):
        raise ValueError("its content is not what was written")
    return Record(arrays, json.loads(metadata["facts"]))


def _digest(arrays: Mapping[str, NDArray[Any]], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
