"""``velocity-mse``: mean squared error of the denoiser's velocity against the true one, v = cos(δ)·ε − sin(δ)·z
(Eq. 3 ff.).

- Mean over every element (items, frames and latent channels alike), so a longer item weighs more. Predicting zero
  gives the mean square of v, about 1 for latents of unit variance.
- Direction: lower is better. Unit: that of the latents, squared: numbers of two codecs do not compare.
- The number depends on how the angles are drawn: uniform over [0, π/2] as in training; ``by_angle`` shows it per
  bin, each frame in the bin of its own angle.

Source: Table 5 and the training loss (Eq. 2–9) of the paper. Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import Width
from melody.checks import check_finite, check_same_shape, check_scored
from melody.errors import MelodyError
from melody.metrics.angle_bins import NUM_BINS, AngleBin, bin_index, bin_means, check_num_bins
from melody.metrics.base import TorchMetric
from melody.protocols import Metric
from melody.registry import metrics


def velocity_mse(preds: Tensor, target: Tensor) -> float:
    """Mean squared error over all elements of two tensors of one shape, in float64.

    >>> velocity_mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    2.0
    """
    return float(_squared_error(preds, target).mean())


@metrics.register("velocity-mse")
class VelocityMSE(TorchMetric, Metric):
    """Mean squared error of the predicted velocity, overall and per angle bin (lower is better)."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    unit: ClassVar[str] = ""
    full_state_update: bool | None = False

    totals: Tensor
    elements: Tensor
    items: Tensor

    def __init__(self, num_bins: Width = NUM_BINS) -> None:
        check_num_bins(num_bins)
        super().__init__()
        self.num_bins = num_bins
        self.add_state("totals", torch.zeros(num_bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("elements", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("items", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, angle: Tensor) -> None:
        """Add velocities ``(B, L, D)`` and their angles ``(B, L)``."""
        error = _squared_error(preds, target)
        if preds.ndim != 3 or angle.shape != preds.shape[:2]:
            raise MelodyError(
                f"velocity-mse: got {tuple(preds.shape)} and angles {tuple(angle.shape)}; expected (B, L, D) and (B, L)"
            )
        bins = bin_index(angle, self.num_bins).flatten()
        self.totals.index_add_(0, bins, error.sum(dim=2).flatten())
        self.elements += torch.bincount(bins, minlength=self.num_bins) * preds.shape[2]
        self.items += len(preds)

    def compute(self) -> Tensor:
        """The mean over all elements."""
        check_scored(self.scored, "velocity-mse")
        return self.totals.sum() / self.elements.sum()

    def by_angle(self) -> list[AngleBin]:
        """The mean per bin; ``n`` counts elements."""
        return bin_means(self.totals, self.elements)

    @property
    def scored(self) -> int:
        """Items (rows of batches)."""
        return int(self.items)


def _squared_error(preds: Tensor, target: Tensor) -> Tensor:
    check_same_shape(preds, target, "velocity-mse")
    check_finite(preds, "velocity-mse: preds")
    check_finite(target, "velocity-mse: target")
    return (preds.detach().to(torch.float64) - target.detach().to(torch.float64)).square()
