"""Unigram and bigram models of tokens, which a language model must beat to have learnt more than neighbours.

- *Unigram*: counts of the training tokens plus one (Laplace).
- *Bigram*: Witten and Bell (1991), doi:10.1109/18.87000, as in Chen and Goodman (1998): each history's counts are
  mixed with the unigram model, with the weight T / (N + T) for a history seen N times with T different successors.
  The start of a sequence is a history of its own.

Cross-entropies are in nats a token, over every token of a sequence. Version 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melody.errors import MelodyError


def unigram_log_probabilities(tokens: Tensor, size: int) -> Tensor:
    """Natural logs ``(size,)`` from training tokens ``(S, N)``, each in ``[0, size)``."""
    _check(tokens, size)
    counts = torch.bincount(tokens.flatten(), minlength=size).double() + 1
    return (counts / counts.sum()).log()


def bigram_log_probabilities(tokens: Tensor, size: int) -> Tensor:
    """Natural logs ``(size + 1, size)`` of the next token; row ``size`` is the start of a sequence."""
    unigram = unigram_log_probabilities(tokens, size).exp()
    pairs = _histories(tokens, size) * size + tokens
    counts = torch.bincount(pairs.flatten(), minlength=(size + 1) * size).double().view(size + 1, size)
    seen, kinds = counts.sum(dim=1, keepdim=True), (counts > 0).double().sum(dim=1, keepdim=True)
    kinds = torch.where(seen == 0, 1.0, kinds)  # a history that was never seen has the unigram model
    return ((counts + kinds * unigram) / (seen + kinds)).log()


def unigram_loss(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each sequence: ``(B, N)`` -> ``(B,)``."""
    _check(tokens, len(log_probabilities))
    return -log_probabilities[tokens].mean(dim=1)


def bigram_loss(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each sequence: ``(B, N)`` -> ``(B,)``."""
    size = log_probabilities.shape[1]
    _check(tokens, size)
    return -log_probabilities[_histories(tokens, size), tokens].mean(dim=1)


def _histories(tokens: Tensor, size: int) -> Tensor:
    start = tokens.new_full((len(tokens), 1), size)
    return torch.cat([start, tokens[:, :-1]], dim=1)


def _check(tokens: Tensor, size: int) -> None:
    if tokens.ndim != 2 or tokens.numel() == 0:
        raise MelodyError(f"n-grams: got tokens of shape {tuple(tokens.shape)}; expected (S, N)")
    if int(tokens.min()) < 0 or int(tokens.max()) >= size:
        raise MelodyError(f"n-grams: tokens from {int(tokens.min())} to {int(tokens.max())}; expected 0 to {size - 1}")
