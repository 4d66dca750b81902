"""The objective of wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), which the paper's is similar to (appendix B.2).

At a masked place the encoder tells the quantised features of that place from those of other masked places of the same
clip, and a second term keeps all entries of the codebook in use. Quantiser and similarity are transformers', which
leaves out the penalty on the features' size. Figures are those of wav2vec 2.0's section 4.2 for the base model.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.conditioning.tower_names import QUANTIZER
from melody.errors import MelodyError

SIMILARITY_TEMPERATURE = 0.1
DIVERSITY_WEIGHT = 0.1
GUMBEL_START, GUMBEL_END, GUMBEL_DECAY = 2.0, 0.5, 0.999995
"""Temperature of the quantiser's draws, multiplied by the last in every step."""


class ContrastiveTargets(nn.Module):
    """Quantised features as targets, and the loss of telling them apart.

    Args:
        hidden_size: of the encoder's output.
        feature_size: of the features that are quantised.
        groups, entries: codebooks side by side, and rows of each.
        codevector_dim: of a target, all groups together; and of the space where targets are compared.
        negatives: other places that each masked place is told from.
    Raises:
        MelodyError: a width that the groups cannot share.
    """

    library_names: ClassVar = {"quantizer": QUANTIZER}

    def __init__(
        self, hidden_size: int, feature_size: int, groups: int, entries: int, codevector_dim: int, negatives: int
    ) -> None:
        super().__init__()
        if groups < 1 or codevector_dim % groups:
            raise MelodyError(f"codevector_dim {codevector_dim} is not a multiple of codevector_groups {groups}")
        self.negatives = negatives
        self.quantizer = _quantizer(feature_size, groups, entries, codevector_dim)
        self.project_hidden = nn.Linear(hidden_size, codevector_dim)
        self.project_target = nn.Linear(codevector_dim, codevector_dim)

    def forward(self, hidden: Tensor, features: Tensor, mask: Tensor, step: int) -> Tensor:
        """Mean over masked places of the cross-entropy (nats), plus the weighted diversity loss.

        Args:
            hidden: the encoder's output ``(B, N, hidden_size)``.
            features: what it was given, before masking ``(B, N, feature_size)``.
            mask: which places are hidden ``(B, N)``.
            step: of training, for the quantiser's temperature.
        """
        self.quantizer.temperature = max(GUMBEL_START * GUMBEL_DECAY**step, GUMBEL_END)
        quantized, perplexity = self.quantizer(features, mask_time_indices=mask)
        targets = self.project_target(quantized.to(features.dtype))[mask]  # (M, d)
        others = targets[negative_places(mask, self.negatives).to(targets.device)].transpose(0, 1)  # (K, M, d)
        logits = _similarity(targets, others, self.project_hidden(hidden)[mask])  # (1 + K, M)
        contrast = F.cross_entropy(logits.T.float(), torch.zeros_like(logits[0], dtype=torch.int64))
        entries = self.quantizer.num_groups * self.quantizer.num_vars
        diversity: Tensor = (entries - perplexity) / entries
        return contrast + DIVERSITY_WEIGHT * diversity


def negative_places(mask: Tensor, count: int) -> Tensor:
    """For each masked place, in order, ``count`` others of the same row, drawn with repeats: ``(M, count)``.

    They are numbers of masked places, from the global generator. The only one of its row gets itself.

    >>> mask = torch.tensor([[True, False, True], [False, True, True]])
    >>> negative_places(mask, 2).tolist()
    [[1, 1], [0, 0], [3, 3], [2, 2]]
    """
    sizes = mask.sum(dim=1).cpu()
    rows = torch.repeat_interleave(torch.arange(len(sizes)), sizes)  # (M,)
    size, first = sizes[rows][:, None], (sizes.cumsum(0) - sizes)[rows][:, None]
    rank = torch.arange(len(rows))[:, None] - first
    ahead = 1 + (torch.rand(len(rows), count) * (size - 1)).long()
    return first + (rank + ahead) % size


def _similarity(targets: Tensor, others: Tensor, predicted: Tensor) -> Tensor:
    """Cosines over the temperature of the right target and of others; others that equal the right one do not count."""
    from transformers import Wav2Vec2ConformerForPreTraining

    logits: Tensor = Wav2Vec2ConformerForPreTraining.compute_contrastive_logits(
        targets[None], others, predicted, SIMILARITY_TEMPERATURE
    )
    same = (others == targets).all(dim=-1)
    return torch.cat([logits[:1], logits[1:].masked_fill(same, -torch.inf)])


def _quantizer(feature_size: int, groups: int, entries: int, codevector_dim: int) -> Any:
    from transformers import Wav2Vec2ConformerConfig
    from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
        Wav2Vec2ConformerGumbelVectorQuantizer,
    )

    config = Wav2Vec2ConformerConfig(
        conv_dim=(feature_size,),
        conv_kernel=(1,),
        conv_stride=(1,),
        num_codevector_groups=groups,
        num_codevectors_per_group=entries,
        codevector_dim=codevector_dim,
    )
    quantizer: Any = Wav2Vec2ConformerGumbelVectorQuantizer(config)
    # As transformers starts it within its own model; the class alone leaves the entries as memory was.
    quantizer.codevectors = nn.Parameter(torch.rand(1, groups * entries, codevector_dim // groups))
    nn.init.normal_(quantizer.weight_proj.weight)
    nn.init.zeros_(quantizer.weight_proj.bias)
    return quantizer
