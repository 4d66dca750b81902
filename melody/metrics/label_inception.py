"""``label-is``: the Inception score's analogue on a tagger's label distributions.

    IS = exp(mean over clips of KL(p(label | clip) ‖ p(label)))

- It is high where every clip has clear labels and the clips have different ones. It needs no reference and does not
  look at any: clear and varied noise would score well. From 1 to the number of labels; higher is better. Unit: none.
- A clip's distribution: see ``label_distributions``; the parameter ``pooling`` is ``logits`` or ``probabilities``.
- Over all clips at once, without the ten parts of the usual implementation, whose mean depends on how they are cut.
  With few clips the score is biased downwards (n clips can score n at most), so sets of different sizes do not
  compare.
- The tagger, its window and hop belong to the number's name. Every clip counts one; Σp and Σp·log p merge by sums.

Source: Salimans et al. (2016), arXiv 1606.03498, section 4. Version 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import Width
from melody.checks import check_scored
from melody.metrics.base import TorchMetric
from melody.metrics.label_distributions import AUDIOSET_LABELS, Pooling, check_num_labels, clip_log_distribution
from melody.protocols import InputKind, Metric
from melody.registry import metrics


def label_inception_score(clips: Sequence[Tensor], *, pooling: Pooling = "logits") -> float:
    """The score of clips given by their logits, ``(windows, labels)`` each.

    >>> one, other = torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 99.0]])
    >>> round(label_inception_score([one, other]), 6), round(label_inception_score([one, one]), 6)
    (2.0, 1.0)
    """
    metric = LabelInceptionScore(num_labels=clips[0].shape[-1], pooling=pooling)
    for clip in clips:
        metric.update(clip, real=False)
    return float(metric.compute())


@metrics.register("label-is")
class LabelInceptionScore(TorchMetric, Metric):
    """How clear each clip's labels are, and how they differ from clip to clip (higher is better)."""

    version: ClassVar[str] = "1"
    input_kind: ClassVar[InputKind] = "labels"
    needs_reference: ClassVar[bool] = False
    direction: ClassVar[Literal["lower", "higher", "none"]] = "higher"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})
    unit: ClassVar[str] = ""
    full_state_update: bool | None = False

    total: Tensor
    negative_entropy: Tensor
    count: Tensor

    def __init__(self, num_labels: Width = AUDIOSET_LABELS, pooling: Pooling = "logits") -> None:
        super().__init__()
        self.num_labels, self.pooling = num_labels, pooling
        self.add_state("total", torch.zeros(num_labels, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("negative_entropy", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, real: bool) -> None:
        """Add one clip's logits ``(windows, labels)``; a reference clip (``real``) is checked and left out."""
        added = clip_log_distribution(logits, self.pooling, "label-is")
        check_num_labels(added, self.num_labels, "label-is")
        if real:
            return
        self.total += added.exp()
        self.negative_entropy += (added.exp() * added).sum()
        self.count += 1

    def compute(self) -> Tensor:
        """The score."""
        check_scored(self.scored, "label-is")
        marginal = self.total / self.count
        return torch.exp(self.negative_entropy / self.count - torch.xlogy(marginal, marginal).sum())

    @property
    def scored(self) -> int:
        """Generated clips."""
        return int(self.count)
