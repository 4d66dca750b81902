"""MeLoDy Toolkit: the open implementation of *Efficient Neural Music Generation* and its evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["MelodyError", "MelodyPipeline", "__version__"]

from melody.errors import MelodyError

if TYPE_CHECKING:
    from melody.pipeline import MelodyPipeline


def __getattr__(name: str) -> Any:
    """Import torch and the models only when the pipeline is asked for."""
    if name == "MelodyPipeline":
        from melody.pipeline import MelodyPipeline

        return MelodyPipeline
    raise AttributeError(f"module 'melody' has no attribute {name!r}")
