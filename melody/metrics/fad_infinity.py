"""FAD∞, ``fad-inf``: the Fréchet audio distance extrapolated to endlessly many generated windows.

    FAD(n) ≈ FAD∞ + b / n, by least squares over subsets of n windows

- Subsets are of *whole clips*, drawn *without* replacement: windows of a clip are not independent, and a subset drawn
  with replacement from N windows has a bias of b / n + b / N, of which the fit takes off the first part only.
- Draws: in each of 8 random orders of the clips, the first N/4, ..., N clips in 10 even steps; a point of the fit is
  the mean of 1/n and the mean distance over the orders (sizes and numbers ours; Chong and Forsyth take 15 points). The
  orders come from ``seed`` and from the clips' content, not from their order, so neither the order of files nor the
  number of processes moves the number.
- ``bias`` = b / N is by how much the plain FAD of all N windows is too large; ``residual`` is the root mean square
  that the line misses the points by. Where N/4 clips have no more windows than dimensions the law 1/n is not reached;
  ``warning`` says so.
- Direction: lower is better. Unit: none, as ``fad``. Unbiased, so near zero it may be negative. Its spread is larger
  than the plain FAD's. The reference is taken as fixed: its own bias remains.
- The embeddings of the generated clips are kept, for the subsets.

Sources: Chong and Forsyth (2020), arXiv 1911.07023; Gui et al. (2024), arXiv 2311.01616, for audio. Version 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.bounds import Draws, Seed, Width
from melody.embedders.mel_stats import DIMENSION
from melody.errors import MelodyError
from melody.metrics.cat_state import EmbeddingSets
from melody.metrics.frechet import Statistics, frechet_distances
from melody.registry import metrics

SIZES, DRAWS, SMALLEST_PART, FEWEST_CLIPS = 10, 8, 4, 4


@dataclass(frozen=True)
class Extrapolation:
    """FAD against the number of windows, and where it leads.

    Attributes:
        value: FAD∞, the line's value at 1/n = 0.
        slope: b, distance times windows.
        residual: root mean square of what the line misses the points by.
        plain: FAD of all windows.
        windows: N.
        dimension: of the embedding.
        points: mean of 1/n and mean FAD of each size of subset.
    """

    value: float
    slope: float
    residual: float
    plain: float
    windows: int
    dimension: int
    points: tuple[tuple[float, float], ...]

    @property
    def bias(self) -> float:
        """By how much the plain FAD of all windows is too large."""
        return self.slope / self.windows

    @property
    def warning(self) -> str | None:
        """One line where the smallest subsets have no more windows than dimensions, else ``None``."""
        smallest = round(1 / max(inverse for inverse, _ in self.points))
        if smallest > self.dimension:
            return None
        return (
            f"FAD∞ is fitted to subsets from {smallest} windows on, for {self.dimension} dimensions: "
            f"too few for the law 1/n; it took {self.bias:.3g} off a plain FAD of {self.plain:.3g}"
        )


def fad_infinity(clips: Sequence[Tensor], reference: Statistics, *, draws: int = DRAWS, seed: int = 0) -> Extrapolation:
    """FAD∞ of a set of clips.

    Args:
        clips: generated ``(windows, E)`` each, of any length.
        reference: statistics of the whole reference set, taken as fixed.
        draws: random orders of the clips.
    Raises:
        MelodyError: fewer than four clips, subsets of fewer than two windows, widths that differ.
    """
    if len(clips) < FEWEST_CLIPS or draws < 1:
        raise MelodyError(f"fad-inf: {len(clips)} clips and {draws} draws; expected at least {FEWEST_CLIPS} and 1")
    ordered, rng = _by_content(clips), np.random.default_rng(seed)
    sizes = np.unique(np.linspace(-(-len(clips) // SMALLEST_PART), len(clips), SIZES).round().astype(np.int64))
    counts, rows = [], []
    for _ in range(draws):
        subsets = _first_clips(ordered, rng.permutation(len(clips)), sizes)
        counts.append([1 / part.n for part in subsets])
        rows.append(frechet_distances(subsets, reference))
    inverse, distances = np.mean(counts, axis=0), np.mean(rows, axis=0)
    slope, value = np.polyfit(inverse, distances, 1)
    return Extrapolation(
        value=float(value),
        slope=float(slope),
        residual=float(np.sqrt(np.mean((value + slope * inverse - distances) ** 2))),
        plain=float(distances[-1]),
        windows=sum(map(len, clips)),
        dimension=reference.dimension,
        points=tuple((float(x), float(y)) for x, y in zip(inverse, distances, strict=True)),
    )


@metrics.register("fad-inf")
class FrechetInfinity(EmbeddingSets):
    """Fréchet audio distance extrapolated to endlessly many generated windows (lower is better)."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})

    def __init__(self, dimension: Width = DIMENSION, draws: Draws = DRAWS, seed: Seed = 0) -> None:
        super().__init__(dimension)
        self.draws, self.seed = draws, seed

    def extrapolation(self) -> Extrapolation:
        """The fit; raises ``MelodyError`` for fewer than four generated clips or two reference windows."""
        return fad_infinity(self.clips("generated"), self.statistics("reference"), draws=self.draws, seed=self.seed)

    def compute(self) -> Tensor:
        """FAD∞, float64."""
        return torch.tensor(self.extrapolation().value, dtype=torch.float64)

    @property
    def warning(self) -> str | None:
        """One line if the subsets are too small for the embedding."""
        return self.extrapolation().warning


def _by_content(clips: Sequence[Tensor]) -> list[Tensor]:
    """The clips in an order of their own: by the mean of all that they hold."""
    return sorted(clips, key=lambda clip: (float(clip.double().mean()), len(clip)))


def _first_clips(clips: Sequence[Tensor], order: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[Statistics]:
    """Statistics of the first clips of an order, for each of the rising sizes."""
    sums: list[Statistics] = []
    done = 0
    for size in sizes:
        added = Statistics.of(torch.cat([clips[row] for row in order[done:size]]))
        sums.append(sums[-1] + added if sums else added)
        done = size
    return sums
