"""What is known of a sound, in the store by the hash of its content: tensors by feature, and facts about the file.

A feature's name is a hash of all that decides it but the sound (component, version, source, arguments, libraries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from melody.artifacts.store import Record, Store

KIND = "features"
Tensors = dict[str, Tensor]


@dataclass
class ClipFeatures:
    """A sound's features: tensors by feature and name, and facts about the file."""

    tensors: Tensors = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def feature(self, key: str) -> Tensors | None:
        """A feature's tensors by name, or ``None`` if it is not known."""
        kept = {name.partition("/")[2]: t for name, t in self.tensors.items() if name.startswith(f"{key}/")}
        return kept or None

    def add(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        self.tensors |= {f"{key}/{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


class FeatureStore:
    """Features of sounds, in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, key: str) -> ClipFeatures:
        """What is known of a sound; nothing if it is new."""
        record = self.store.read(KIND, key) or Record()
        return ClipFeatures({name: torch.from_numpy(array) for name, array in record.arrays.items()}, record.facts)

    def write(self, key: str, clip: ClipFeatures) -> None:
        """Add a sound's features to what another process has written of it since."""
        self.store.merge(KIND, key, Record({name: tensor.numpy() for name, tensor in clip.tensors.items()}, clip.facts))
