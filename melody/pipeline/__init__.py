"""The MeLoDy system (Algorithms 1 and 2): prompt -> MuLan tokens -> semantic tokens -> latents -> sound."""

from __future__ import annotations

from melody.config import PARTS
from melody.pipeline.editing import parse_span
from melody.pipeline.latents import Statistics, latent_statistics
from melody.pipeline.parts import (
    build_part,
    check_weights,
    has_weights,
    inherited_file,
    load_part,
    part_file,
    shipped_bases,
    shipped_weights,
    weight_files,
)
from melody.pipeline.streaming import Stream
from melody.pipeline.system import MelodyPipeline

__all__ = [
    "PARTS",
    "MelodyPipeline",
    "Statistics",
    "Stream",
    "build_part",
    "check_weights",
    "has_weights",
    "inherited_file",
    "latent_statistics",
    "load_part",
    "parse_span",
    "part_file",
    "shipped_bases",
    "shipped_weights",
    "weight_files",
]
