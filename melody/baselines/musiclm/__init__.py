"""MusicLM-style system: presets, windows, the stages' drawing, and the system itself."""

from __future__ import annotations

from melody.baselines.musiclm.system import MusicLmSystem

__all__ = ["MusicLmSystem"]
