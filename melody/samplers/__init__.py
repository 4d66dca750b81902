"""Samplers: ways from noise to latents along a grid of angles, one file each, and the loop that drives them all."""

from __future__ import annotations

from melody.samplers.loop import sample

__all__ = ["sample"]
