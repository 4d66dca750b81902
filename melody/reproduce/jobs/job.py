"""A job: a pure function of its fields. Same kind and fields, same key, computed once."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from melody.artifacts.files import canonical

if TYPE_CHECKING:
    from melody.reproduce.loaded import Loaded


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What is to be computed, and all that decides the result.

    Fields are JSON and hold content (names, hashes, versions, texts), never a place (a path, a host).
    """

    kind: ClassVar[str]
    label: str = field(default="", compare=False)
    """For the progress bar; not part of the key."""

    @abstractmethod
    def compute(self, loaded: Loaded) -> JobResult:
        """The result, from the fields alone; places and devices are those of what is loaded."""

    @property
    def system_name(self) -> str:
        """The system that must be loaded beside the preset's parts; the preset's own if there is none."""
        return "melody"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The fields by name, without those that are ``None``."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "label"}
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of kind and fields."""
        return hashlib.sha256(canonical({"kind": self.kind, "config": self.config})).hexdigest()


@dataclass(frozen=True, kw_only=True)
class NetworkJob(Job):
    """A job that runs a network, whose numbers hang on the kind of device and on versions."""

    device: str
    precision: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PresetJob(NetworkJob):
    """A job that runs the preset's parts."""

    subject: dict[str, Any]
    weights: str | None


@dataclass(frozen=True)
class JobResult:
    """What a job computed: JSON values, small arrays, a few clips as FLAC files."""

    values: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    clips: dict[str, bytes] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    """Commit, versions, device and threads that computed it; kept with it, since a later run may read it."""


@dataclass(frozen=True)
class Failure:
    """A job that could not be computed, and why in one line. Failures are not stored: the next run tries again."""

    reason: str


JobResults = Mapping[str, "JobResult | Failure"]
"""By the job's key."""


def float32(array: Any) -> NDArray[np.float32]:
    """A tensor or array as contiguous float32, the form that results are stored in."""
    values = array.detach().cpu().numpy() if hasattr(array, "detach") else array
    return np.ascontiguousarray(values, dtype=np.float32)
