"""``recall-at-k``: how often the right one of N candidates is among the k nearest in a joint space.

Row i of the queries belongs to row i of the candidates. Nearness is the cosine; a candidate that is as near as the
right one counts as nearer, so that an embedder which maps everything to one point recalls nothing. Direction: higher
is better; by chance k / N. Source: Huang et al. (2022), arXiv 2208.12415. Version 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melody.checks import check_finite, check_same_shape


def ranks(queries: Tensor, candidates: Tensor) -> Tensor:
    """How many candidates come before the right one: two ``(N, E)`` -> ``(N,)``, int64.

    >>> ranks(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.1]])).tolist()
    [0, 0]
    """
    check_same_shape(queries, candidates, "recall-at-k")
    check_finite(queries, "recall-at-k: queries")
    check_finite(candidates, "recall-at-k: candidates")
    a, b = (torch.nn.functional.normalize(x.detach().to(torch.float64), dim=1) for x in (queries, candidates))
    similarity = a @ b.T
    return (similarity >= similarity.diagonal()[:, None]).sum(dim=1) - 1
