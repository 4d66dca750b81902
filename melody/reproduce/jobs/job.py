"""A job: a pure function of a small config. Same config, same key, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melody.artifacts.files import canonical


@dataclass(frozen=True)
class Job:
    """What is to be computed, and all that decides the outcome.

    ``config`` is JSON and holds content (names, hashes, versions, texts), never a place (a path, a host).
    """

    kind: str
    config: dict[str, Any]
    label: str = field(default="", compare=False)
    """For the progress bar; not part of the key."""

    @property
    def system(self) -> str:
        """Name of the system that must be loaded beside the preset's parts; the preset's own if there is none."""
        return str(self.config.get("system", {}).get("name", "melody"))

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of kind and config."""
        return hashlib.sha256(canonical({"kind": self.kind, "config": self.config})).hexdigest()


@dataclass(frozen=True)
class JobResult:
    """What a unit computed: JSON values, small arrays, a few clips as FLAC files."""

    values: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    clips: dict[str, bytes] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    """Commit, versions, device and threads that computed it; kept with it, since a later run may read it."""


@dataclass(frozen=True)
class Failure:
    """A unit that could not be computed, and why in one line. Failures are not stored: the next run tries again."""

    reason: str


JobResults = Mapping[str, "JobResult | Failure"]
"""By the unit's key."""


def float32(array: Any) -> NDArray[np.float32]:
    """A tensor or array as contiguous float32, the form that outcomes are stored in."""
    values = array.detach().cpu().numpy() if hasattr(array, "detach") else array
    return np.ascontiguousarray(values, dtype=np.float32)
