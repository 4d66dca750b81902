"""``kl`` and ``kl-pooled``: Kullback-Leibler divergence of a tagger's label distributions, in nats.

    KL(reference ‖ generated) = Σ p_ref (log p_ref − log p_gen) over labels

- ``kl``: of the two clips of one identifier, mean over pairs. It asks whether the clip has the labels of *its*
  reference.
- ``kl-pooled``: of the mean distribution of all reference clips and that of all generated clips; needs no pairs, and
  cannot see which clip has which label.
- Direction of the divergence: reference ‖ generated, as audioldm_eval and audiocraft's main number have it (a label
  that the generated clip misses costs much, one that it adds costs little). stable-audio-metrics computes generated ‖
  reference: their numbers do not compare. Lower is better, at least 0.
- A clip's distribution: see ``label_distributions``; the parameter ``pooling`` is ``logits`` or ``probabilities``.
- No constant is added inside the logarithm (tools add 1e-6 to the generated side, which caps the divergence at 13.8
  and moves small ones); log-probabilities are computed as such. In ``kl-pooled`` a probability below float64's
  smallest normal number counts as that.
- The tagger, its window and hop belong to the number's name. Every pair, or clip, counts one; both merge by sums.

Sources: Kullback and Leibler (1951), doi:10.1214/aoms/1177729694; Kreuk et al. (2023), arXiv 2209.15352, and Evans et
al. (2024), arXiv 2402.04825, for audio. Version 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from melody.bounds import Width
from melody.checks import check_scored
from melody.errors import MelodyError
from melody.metrics.base import TorchMetric
from melody.metrics.label_distributions import AUDIOSET_LABELS, Pooling, check_num_labels, clip_log_distribution
from melody.protocols import InputKind, Metric
from melody.registry import metrics


def divergence(log_reference: Tensor, log_generated: Tensor) -> float:
    """KL(reference ‖ generated) in nats of two log-distributions ``(labels,)``, at least 0."""
    return max(0.0, float((log_reference.exp() * (log_reference - log_generated)).sum()))


def paired_kl(preds: Tensor, target: Tensor, *, pooling: Pooling = "logits") -> float:
    """KL of one pair in nats, from logits ``(windows, labels)`` of the generated clip and of its reference.

    >>> round(paired_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, 0.0]])), 4)  # log 2
    0.6931
    """
    log_generated, log_reference = (clip_log_distribution(x, pooling, "kl") for x in (preds, target))
    if len(log_generated) != len(log_reference):
        raise MelodyError(f"kl: logits of {len(log_generated)} and {len(log_reference)} labels; expected the same")
    return divergence(log_reference, log_generated)


@metrics.register("kl")
class PairedLabelKL(TorchMetric, Metric):
    """Divergence of a clip's label distribution from its reference clip's, mean over pairs (lower is better)."""

    version: ClassVar[str] = "1"
    input_kind: ClassVar[InputKind] = "label_pairs"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "targets shuffled"})
    unit: ClassVar[str] = "nats"
    full_state_update: bool | None = False

    total: Tensor
    count: Tensor

    def __init__(self, pooling: Pooling = "logits") -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a pair: logits ``(windows, labels)`` of the generated clip and of the reference clip."""
        self.total += paired_kl(preds, target, pooling=self.pooling)
        self.count += 1

    def compute(self) -> Tensor:
        """The mean over pairs."""
        check_scored(self.scored, "kl")
        return self.total / self.count

    @property
    def scored(self) -> int:
        """Pairs."""
        return int(self.count)


@metrics.register("kl-pooled")
class PooledLabelKL(TorchMetric, Metric):
    """Divergence of all generated clips' mean label distribution from the reference's (lower is better)."""

    version: ClassVar[str] = "1"
    input_kind: ClassVar[InputKind] = "labels"
    direction: ClassVar[Literal["lower", "higher", "none"]] = "lower"
    tells: ClassVar[frozenset[str] | None] = frozenset({"white noise", "silence", "one clip repeated"})
    unit: ClassVar[str] = "nats"
    full_state_update: bool | None = False

    generated: Tensor
    reference: Tensor
    generated_count: Tensor
    reference_count: Tensor

    def __init__(self, num_labels: Width = AUDIOSET_LABELS, pooling: Pooling = "logits") -> None:
        super().__init__()
        self.num_labels, self.pooling = num_labels, pooling
        for side in ("generated", "reference"):
            self.add_state(side, torch.zeros(num_labels, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{side}_count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, real: bool) -> None:
        """Add one clip's logits ``(windows, labels)``, of the reference if ``real``."""
        added = clip_log_distribution(logits, self.pooling, "kl-pooled")
        check_num_labels(added, self.num_labels, "kl-pooled")
        if real:
            self.reference += added.exp()
            self.reference_count += 1
        else:
            self.generated += added.exp()
            self.generated_count += 1

    def compute(self) -> Tensor:
        """The divergence; raises ``MelodyError`` unless both sets hold a clip."""
        for side, count in (("generated", self.generated_count), ("reference", self.reference_count)):
            check_scored(int(count), f"kl-pooled, {side} set")
        tiny = torch.finfo(torch.float64).tiny
        reference, generated = self.reference / self.reference_count, self.generated / self.generated_count
        value = divergence(reference.clamp(min=tiny).log(), generated.clamp(min=tiny).log())
        return torch.tensor(value, dtype=torch.float64)

    @property
    def scored(self) -> int:
        """Generated clips."""
        return int(self.generated_count)
