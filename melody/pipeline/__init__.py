"""The MeLoDy system (Algorithms 1 and 2): prompt -> MuLan tokens -> semantic tokens -> latents -> sound."""

from __future__ import annotations

from melody.config import PARTS
from melody.pipeline.editing import parse_span
from melody.pipeline.parts import build_part, load_part, shipped_weights
from melody.pipeline.streaming import Stream
from melody.pipeline.system import MelodyPipeline

__all__ = [
    "PARTS",
    "MelodyPipeline",
    "Stream",
    "build_part",
    "load_part",
    "parse_span",
    "shipped_weights",
]
