"""What a system's training is made of, so that baselines train by the same machinery as MeLoDy does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from melody.training.stages import TrainingRun

Figures = dict[str, float]
Finish = Callable[[], tuple[nn.Module, Figures]]
"""What the main process does when a stage's steps are done: the part to keep, and its figures on held-out data."""


@dataclass(frozen=True)
class StageGraph:
    """Stages of one system in the order of what each needs, and how its presets say what its parts are."""

    parts: Mapping[str, str]
    """Stage -> the part that it trains."""
    needs: Mapping[str, tuple[str, ...]]
    """Stage -> the stages that it builds on."""
    recipes: Mapping[str, Callable[[TrainingRun, int | None], Finish]]
    build: Callable[[Any, str], nn.Module]
    """Preset and part -> the part with random weights."""
    component_of: Callable[[Any, str], dict[str, Any]]
    """Preset and part -> what the part's weights are bound to."""
    load: Callable[[Any, str, Path], nn.Module]
    """Preset, part and weights file -> the part."""
    tables_of: Callable[[Any], dict[str, Any]]
    """Preset -> its tables, for ``config.json``."""
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage -> parts of MeLoDy that it uses as they are, so that conditioning is equal."""
    shared_weights: Callable[[Any, str], Path] | None = None
    """Preset and such a part -> its weights file."""
