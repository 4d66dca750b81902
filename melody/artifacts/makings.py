"""What a system of presets tells of itself before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Makings:
    """What a system of a preset is made of, told without loading it: what decides its bits beside its own code."""

    preset: str
    """Its name, for readers: another name changes no number."""
    content: dict[str, Any]
    """The preset's plain values, but for words and recipes of training."""
    components: dict[str, tuple[str, str]]
    """Kind and name of what sits in each role, as in ``{"codec": ("codecs", "fourier-vae")}``."""
    weights: dict[str, Path]
    """The file of each part, whether it is there or not."""
