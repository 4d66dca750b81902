"""Embeddings and tags that were computed before, on disk: by content, whole or not at all, bounded in size.

The key is the SHA-256 of the decoded samples (mono float32 at the embedder's rate) and of all that decides the result:
the embedder's registered name, class, code and facts (version, protocol, hash of the weights, rate, window, hop,
dimension or labels), the libraries' versions and the kind of device. Samples and not the file's bytes, because what
is embedded is what was decoded: a renamed file is found again, new audio under an old name is not, ``a.wav`` and
``a.mp3`` differ as far as they sound different, and another resampler or mono mix is another key without anybody having
to think of it. The price is that a clip is decoded to be found.

An entry is one safetensors file, float32 as it was computed (no half precision, which overflows above 65,504), with
the hash of its values. It is written beside its place and renamed, so any number of processes may share a cache; one
that is damaged is reported, removed and computed again. Beyond the limit the least recently used go first.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from melody.artifacts.code_identity import source_hash
from melody.artifacts.files import canonical, write_bytes
from melody.bounds import shown
from melody.checks import check_finite
from melody.errors import MelodyError
from melody.paths import cache_dir
from melody.protocols import AudioEmbedder, AudioTagger

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 4 * 1024**3
"""Ours: 4 GiB are some 400,000 clips of 10 s by VGGish, or 11,000 by EnCodec."""
LARGEST_LIMIT = 2**63 - 1
LIMIT_FILE = "limit"
SUFFIX = ".safetensors"
LEFTOVER_AGE_S = 3_600
"""A file that is being written is younger; an older one was left by a process that died."""
SHARE_BETWEEN_COUNTS = 16
"""The folder is counted anew when a process has written this part of the limit: so that two together stay within."""
LIBRARIES = ("numpy", "scipy", "transformers", "laion-clap", "torchvision", "torchlibrosa")
UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


@dataclass(frozen=True)
class Usage:
    """What the cache holds: entries and bytes, and the same by embedder or tagger."""

    entries: int
    bytes: int
    by_name: dict[str, tuple[int, int]]


class EmbeddingCache:
    """A folder of embeddings, for any number of processes at once.

    Args:
        folder: by default ``embeddings`` in the user's cache, which ``MELODY_CACHE`` moves.
        limit_bytes: most that it may hold; by default what ``melody cache --limit`` set, else 4 GiB.
    Raises:
        MelodyError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path | None = None, limit_bytes: int | None = None) -> None:
        self.folder = cache_dir("embeddings") if folder is None else Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MelodyError(f"cannot use the cache {self.folder}: {error.strerror or error}") from None
        self.limit_bytes = self._stored_limit() if limit_bytes is None else limit_bytes
        self._bytes_at_count: int | None = None
        self._written = 0
        self._is_writable = True

    def embed(
        self, name: str, embedder: AudioEmbedder, waveform: Tensor, *, made_of: Mapping[str, Any] | None = None
    ) -> Tensor:
        """``embedder.embed(waveform)``, ``(windows, dimension)``, from the cache where it is known.

        Args:
            name: as the embedder is registered.
            waveform: mono ``(T,)`` at the embedder's rate.
            made_of: what decides its numbers and it does not say itself: its arguments, and the code that it imports.
        Raises:
            MelodyError: as the embedder; or if what it gives is not finite, or of another shape.
        """
        key = self._key(name, embedder, waveform, made_of)
        return self._known(key, name, embedder.dimension, lambda: embedder.embed(waveform))

    def tag(
        self, name: str, tagger: AudioTagger, waveform: Tensor, *, made_of: Mapping[str, Any] | None = None
    ) -> Tensor:
        """``tagger.tag(waveform)``, ``(windows, labels)``, as ``embed``."""
        key = self._key(name, tagger, waveform, made_of)
        return self._known(key, name, len(tagger.labels), lambda: tagger.tag(waveform))

    def usage(self) -> Usage:
        """Count what is there."""
        by_name: dict[str, tuple[int, int]] = {}
        total = entries = 0
        for path, size, _ in self._entries():
            name = _stored_name(path)
            count, so_far = by_name.get(name, (0, 0))
            by_name[name] = (count + 1, so_far + size)
            total, entries = total + size, entries + 1
        return Usage(entries, total, by_name)

    def clear(self) -> Usage:
        """Remove every entry; returns what there was."""
        before = self.usage()
        with self._lock():
            for path, _, _ in self._entries():
                path.unlink(missing_ok=True)
        return before

    def set_limit(self, limit_bytes: int) -> None:
        """Keep a limit for this and later runs, and come under it now."""
        if limit_bytes < 0:
            raise MelodyError(f"the cache's limit is {limit_bytes} bytes; expected 0 or more")
        write_bytes(self.folder / LIMIT_FILE, str(limit_bytes).encode())
        self.limit_bytes = limit_bytes
        self.evict()

    def evict(self) -> None:
        """Remove the least recently used entries, until those that are left are within the limit."""
        with self._lock():
            entries = sorted(self._entries(), key=lambda entry: entry[2])
            total = sum(size for _, size, _ in entries)
            room = self.limit_bytes // SHARE_BETWEEN_COUNTS
            goal = self.limit_bytes - 4 * room if total > self.limit_bytes - 2 * room else total
            for path, size, _ in entries:
                if total <= goal:
                    break
                path.unlink(missing_ok=True)
                total -= size
        self._bytes_at_count, self._written = total, 0

    def _known(self, key: str, name: str, width: int, compute: Callable[[], Tensor]) -> Tensor:
        path = self.folder / f"{key}{SUFFIX}"
        found = _read(path, width)
        if found is not None:
            with suppress(OSError):  # a cache that may only be read still serves
                os.utime(path)
            return found
        values = _checked(compute(), name, width)
        self._write(path, name, values)
        return values

    def _write(self, path: Path, name: str, values: Tensor) -> None:
        content = save({"values": values}, metadata={"name": name, "sha256": _digest(values)})
        if not self._is_writable or len(content) > self.limit_bytes // SHARE_BETWEEN_COUNTS:
            return
        try:
            write_bytes(path, content)
            self._written += len(content)
            if self._bytes_at_count is None or self._written >= self.limit_bytes // SHARE_BETWEEN_COUNTS:
                self.evict()
        except (MelodyError, OSError) as error:  # of the folder, or of its lock
            logger.warning("%s; embeddings are computed and not kept", error)
            self._is_writable = False

    def _key(
        self,
        name: str,
        component: AudioEmbedder | AudioTagger,
        waveform: Tensor,
        made_of: Mapping[str, Any] | None,
    ) -> str:
        samples = waveform.detach().to("cpu", torch.float32).contiguous()
        kind = type(component)
        decides = {
            "name": name,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "source": source_hash(kind.__module__),
            "facts": component.identity(),
            "made_of": dict(made_of or {}),
            "libraries": _libraries(),
            "device": str(getattr(component, "device", "cpu")).partition(":")[0],
            "samples": hashlib.sha256(samples.numpy().tobytes()).hexdigest(),
            "shape": list(samples.shape),
        }
        return hashlib.sha256(canonical(decides)).hexdigest()

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """Path, bytes and time of last use of each entry; what dead writers left is removed on the way."""
        for path in self.folder.glob(f"*{SUFFIX}*"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process was quicker
                continue
            if path.suffix == SUFFIX and not path.name.startswith("."):
                yield path, stat.st_size, stat.st_mtime
            elif time.time() - stat.st_mtime > LEFTOVER_AGE_S:
                path.unlink(missing_ok=True)

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock")

    def _stored_limit(self) -> int:
        path = self.folder / LIMIT_FILE
        try:
            return int(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return DEFAULT_LIMIT
        except (OSError, ValueError):
            raise MelodyError(
                f"cannot read the cache's limit in {path}; set it anew with melody cache --limit"
            ) from None


def parse_bytes(text: str) -> int:
    """A size as in ``500MB``, ``2GiB``, ``4g`` or ``0``; units are powers of 1,024.

    >>> parse_bytes("2GB"), parse_bytes("1.5 k")
    (2147483648, 1536)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text, flags=re.IGNORECASE)
    size = float(found[1]) * UNITS[found[2].lower()] if found else math.inf
    if size > LARGEST_LIMIT:
        raise MelodyError(f"{shown(text)} is no size; expected a number with a unit, as in 500MB or 2GB")
    return int(size)


def show_bytes(size: float) -> str:
    """A size for people.

    >>> show_bytes(1536), show_bytes(10)
    ('1.5 KiB', '10 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _read(path: Path, width: int) -> Tensor | None:
    """The entry's values, or ``None`` if it is not there or damaged, in which case it is removed."""
    try:
        with safe_open(path, framework="pt") as file:
            values: Tensor = file.get_tensor("values").clone()
            expected = (file.metadata() or {}).get("sha256")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        problem = str(error).splitlines()[0]
    else:
        if values.dtype == torch.float32 and values.shape[1:] == (width,) and _digest(values) == expected:
            return values
        problem = "its values are not those that were written"
    logger.warning("cache: entry %s is damaged (%s); it is discarded and computed again", path.name[:12], problem)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return None


def _checked(values: Tensor, name: str, width: int) -> Tensor:
    if values.ndim != 2 or len(values) == 0 or values.shape[1] != width:
        raise MelodyError(f"{name} gave shape {tuple(values.shape)}; expected (windows, {width}), at least one window")
    check_finite(values, f"{name}: what it gave")
    return values.detach().to("cpu", torch.float32).contiguous()


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def _stored_name(path: Path) -> str:
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {}).get("name", "?"))
    except (OSError, SafetensorError):
        return "damaged"


@cache
def _libraries() -> dict[str, str]:
    """Versions of what computes: an extractor or a network of another version may give other values."""
    found = {"torch": str(torch.__version__)}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
