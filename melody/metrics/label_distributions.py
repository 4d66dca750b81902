"""One distribution over labels for a clip, from a tagger's logits of its windows: what the label metrics share.

Softmax over labels, as the field does also with taggers that were trained with one sigmoid a label. Two ways to pool
the windows of a clip: ``logits`` (softmax of the mean of the logits; the geometric mean of the windows' distributions,
scaled to sum to one; the default, as stable-audio-metrics has it) or ``probabilities`` (mean of the windows'
distributions). They differ for every clip that changes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from melody.checks import check_finite
from melody.errors import MelodyError

Pooling = Literal["logits", "probabilities"]
AUDIOSET_LABELS = 527


def clip_log_distribution(logits: Tensor, pooling: Pooling, name: str) -> Tensor:
    """Log-probabilities ``(labels,)`` of a clip, float64, from the logits ``(windows, labels)`` of its windows.

    Raises:
        MelodyError: another shape, an empty tensor, NaN or infinity.

    >>> clip_log_distribution(torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), "probabilities", "kl").exp()
    tensor([0.3750, 0.6250], dtype=torch.float64)
    """
    if logits.ndim != 2 or logits.numel() == 0:
        raise MelodyError(f"{name}: logits have shape {tuple(logits.shape)}; expected (windows, labels)")
    check_finite(logits, f"{name}: logits")
    windows = logits.detach().to(torch.float64)
    if pooling == "logits":
        return windows.mean(dim=0).log_softmax(dim=0)
    if pooling == "probabilities":
        return windows.log_softmax(dim=1).logsumexp(dim=0) - math.log(len(windows))
    raise MelodyError(f"{name}: pooling is {pooling!r}; expected 'logits' or 'probabilities'")


def check_num_labels(log_distribution: Tensor, num_labels: int, name: str) -> None:
    """Raise ``MelodyError`` unless there are as many labels as the metric was made for."""
    if len(log_distribution) != num_labels:
        raise MelodyError(f"{name}: logits of {len(log_distribution)} labels; expected {num_labels}")
