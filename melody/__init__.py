"""MeLoDy Toolkit: the open implementation of *Efficient Neural Music Generation* and its evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["MelodyError", "MelodyPipeline", "__version__", "compare", "evaluate", "load_results"]

from melody.errors import MelodyError

if TYPE_CHECKING:
    from melody.evaluation.compare import compare
    from melody.evaluation.evaluate import evaluate
    from melody.pipeline import MelodyPipeline
    from melody.reproduce.results import load_results


def __getattr__(name: str) -> Any:
    """Import torch and the models only when something is asked for that needs them."""
    if name == "MelodyPipeline":
        from melody.pipeline import MelodyPipeline

        return MelodyPipeline
    if name == "compare":
        from melody.evaluation.compare import compare

        return compare
    if name == "evaluate":
        from melody.evaluation.evaluate import evaluate

        return evaluate
    if name == "load_results":
        from melody.reproduce.results import load_results

        return load_results
    raise AttributeError(f"module 'melody' has no attribute {name!r}")
