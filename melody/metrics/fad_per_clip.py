"""Per-clip FAD, ``fad-per-clip``: the Fréchet distance of each clip's windows to the whole reference; mean over clips.

- For finding outliers: the clips with the largest values sound least like the reference, by this embedder. As an
  aggregate it is not ``fad``, and larger: a single clip never has the reference's variety, whatever its quality.
- A clip has few windows, so its covariance is singular and its distance biased upwards, the more the shorter it is:
  compare clips of one length only.
- A clip of one window has no covariance and is refused. Tools that flatten such a clip's vector get a scalar distance
  between two heaps of numbers, which says nothing.
- Direction: lower is better. Unit: none. Every clip counts one. The embeddings of the generated clips are kept.

Source: Gui et al. (2024), arXiv 2311.01616. Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.checks import check_scored
from melody.metrics.cat_state import EmbeddingSets
from melody.metrics.frechet import frechet_distances_of_clips
from melody.registry import metrics


@metrics.register("fad-per-clip")
class FrechetPerClip(EmbeddingSets):
    """Fréchet distance of each clip to the reference, mean over clips (lower is better)."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence"})

    def per_clip(self) -> list[float]:
        """The distance of each generated clip, in the order of the updates."""
        clips = self.clips("generated")
        check_scored(len(clips), "fad-per-clip")
        return frechet_distances_of_clips(clips, self.statistics("reference"))

    def compute(self) -> Tensor:
        """The mean over clips, float64."""
        return torch.tensor(self.per_clip(), dtype=torch.float64).mean()

    @property
    def scored(self) -> int:
        """Generated clips."""
        return len(self.kept("generated_sizes"))
