"""The MeLoDy system (Algorithms 1 and 2): prompt -> MuLan tokens -> semantic tokens -> latents -> sound."""

from __future__ import annotations

from melody.pipeline.editing import parse_span
from melody.pipeline.streaming import Stream
from melody.pipeline.system import PARTS, MelodyPipeline, build_part, component_of, load_part, shipped_weights

__all__ = [
    "PARTS",
    "MelodyPipeline",
    "Stream",
    "build_part",
    "component_of",
    "load_part",
    "parse_span",
    "shipped_weights",
]
