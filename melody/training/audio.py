"""Audio of a corpus in equal pieces, for training."""

from __future__ import annotations

import torch
from torch import Tensor

from melody.data.corpus import Corpus
from melody.training.shares import WHOLE, Share


def fixed_length(waveform: Tensor, samples: int, start: int = 0) -> Tensor:
    """``samples`` samples from ``start``, the end filled with zeros: ``(T,) -> (samples,)``."""
    piece = waveform[start : start + samples]
    return torch.nn.functional.pad(piece, (0, samples - len(piece)))


def random_crops(
    corpus: Corpus, batch_size: int, samples: int, generator: torch.Generator, share: Share = WHOLE
) -> tuple[Tensor, list[int]]:
    """Clips drawn with replacement, each at a random place: the share's ``(B, 1, samples)``; all clips' indices."""
    indices = torch.randint(len(corpus), (batch_size,), generator=generator).tolist()
    own = range(batch_size)[share.rows(batch_size)]
    crops = []
    for row, index in enumerate(indices):
        if row not in own:  # not read, but its place is drawn, so that the stream is that of the whole batch
            torch.randint(max(1, _length(corpus, index) - samples + 1), (), generator=generator)
            continue
        waveform = corpus[index].waveform(corpus.sample_rate)
        start = int(torch.randint(max(1, len(waveform) - samples + 1), (), generator=generator))
        crops.append(fixed_length(waveform, samples, start))
    return torch.stack(crops)[:, None], indices


def segments(corpus: Corpus, samples: int) -> list[tuple[int, int]]:
    """Every whole piece of ``samples`` samples as (clip, first sample); a shorter clip gives one padded piece."""
    places = []
    for index in range(len(corpus)):
        length = _length(corpus, index)
        places += [(index, start) for start in range(0, max(1, length - samples + 1), samples)]
    return places


def segment_batch(corpus: Corpus, places: list[tuple[int, int]], samples: int) -> Tensor:
    """The pieces at ``places``: ``(B, 1, samples)``."""
    pieces = [fixed_length(corpus[index].waveform(corpus.sample_rate), samples, start) for index, start in places]
    return torch.stack(pieces)[:, None]


def _length(corpus: Corpus, index: int) -> int:
    """A clip's samples, by its header."""
    return round(corpus[index].duration_s * corpus.sample_rate)
