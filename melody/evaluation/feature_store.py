"""What is known of a sound, on disk by the hash of its content: one file a sound, there whole or not at all.

Layout::

    KE/KEY.safetensors   KEY: SHA-256 of the sound's content; tensors FEATURE/NAME, float32 or as a metric's states are

A feature's name is a hash of all that decides it but the sound (component, version, source, arguments, libraries). A
file that is not what was written is discarded, and its sound measured again. Two writers add to one record: each is
merged with what is there, under a lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from melody.artifacts.files import canonical, write_bytes
from melody.errors import StorageError

logger = logging.getLogger(__name__)

LEFTOVER_AGE_S = 3_600
Tensors = dict[str, Tensor]


@dataclass
class ClipFeatures:
    """A sound's features: tensors by feature and name, and facts about the file."""

    tensors: Tensors = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def feature(self, key: str) -> Tensors | None:
        """A feature's tensors by name, or ``None`` if it is not known."""
        found = {name.partition("/")[2]: t for name, t in self.tensors.items() if name.startswith(f"{key}/")}
        return found or None

    def add(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        self.tensors |= {f"{key}/{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


class FeatureStore:
    """A folder of records, for any number of processes at once.

    Raises:
        StorageError: the folder cannot be made, written or read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        except OSError as error:
            raise StorageError(f"cannot use the records {self.folder}: {error.strerror or error}") from None

    def read(self, key: str) -> ClipFeatures:
        """What is known of a sound; an empty record if nothing is."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return ClipFeatures()
        except OSError as error:
            raise StorageError(f"cannot read the records {self.folder}: {error.strerror or error}") from None
        try:
            tensors = load(content)
            metadata = _metadata(content)
            if metadata["digest"] != _digest(tensors, metadata["facts"]):
                raise ValueError("its content is not what was written")
            return ClipFeatures(tensors, json.loads(metadata["facts"]))
        except (SafetensorError, ValueError, KeyError) as error:
            logger.warning("records: %s is damaged (%s); its sound is measured again", path, error)
            with suppress(OSError):  # what cannot be removed is told when it cannot be written
                path.unlink(missing_ok=True)
            return ClipFeatures()

    def write(self, key: str, record: ClipFeatures) -> None:
        """Add a record to what another process has written of the sound since; whole or not at all."""
        try:
            with FileLock(self.folder / "lock"):
                there = self.read(key)
                tensors, facts = there.tensors | record.tensors, canonical(there.facts | record.facts).decode()
                write_bytes(self._path(key), save(tensors, {"facts": facts, "digest": _digest(tensors, facts)}))
        except OSError as error:
            raise StorageError(f"cannot write the records {self.folder}: {error.strerror or error}") from None

    def _remove_leftovers(self) -> None:
        """Remove what writers left that died; a live one takes less than an hour."""
        for path in self.folder.glob("*/.*"):
            with suppress(FileNotFoundError):  # another process was quicker
                if time.time() - path.stat().st_mtime > LEFTOVER_AGE_S:
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def _digest(tensors: Tensors, facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata
