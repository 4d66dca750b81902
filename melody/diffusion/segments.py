"""Segmentation into half-overlapping segments and its inverse, and the merging and repeating of columns (Figure 2).

Segments are kept column first, ``(K, B, S, width)``: what runs along K walks over the first dimension, and what runs
across segments finds them side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melody.errors import MelodyError


@dataclass(frozen=True)
class Segmentation:
    """How ``length`` frames lie in ``num_segments`` segments of ``size`` frames that overlap by half.

    Half a segment of padding in front, and half a segment or more behind, let every frame lie in exactly two segments:
    2,500 frames in segments of 64 make 80 of them, as the paper prints.

    >>> Segmentation.of(2500, 64).num_segments
    80
    """

    length: int
    size: int
    num_segments: int

    @classmethod
    def of(cls, length: int, size: int) -> Segmentation:
        """The fewest segments that hold ``length`` frames; raises ``MelodyError`` for no frames or an odd size."""
        if length < 1:
            raise MelodyError(f"there are {length} latent frames to segment: expected 1 or more")
        if size < 2 or size % 2:
            raise MelodyError(f"segment_size is {size}: expected an even number of frames, 2 or more")
        return cls(length, size, -(-length // (size // 2)) + 1)

    @property
    def hop(self) -> int:
        """Frames from one segment to the next, K/2."""
        return self.size // 2

    def chunk(self, frames: Tensor) -> Tensor:
        """Frames ``(B, L, width)`` -> chunks of half a segment ``(K/2, B, S + 1, width)``, zeros in the padding."""
        batch, length, width = frames.shape
        behind = self.num_segments * self.hop - length
        padded = torch.nn.functional.pad(frames, (0, 0, self.hop, behind))
        return padded.view(batch, self.num_segments + 1, self.hop, width).permute(2, 0, 1, 3).contiguous()

    def split(self, frames: Tensor) -> Tensor:
        """Frames ``(B, L, width)`` -> segments ``(K, B, S, width)``, zeros in the padding."""
        chunks = self.chunk(frames)
        return torch.cat([chunks[:, :, :-1], chunks[:, :, 1:]])

    def overlap_add(self, segments: Tensor) -> Tensor:
        """Segments ``(K, B, S, width)`` -> frames ``(B, L, width)``: the mean of a frame's two places."""
        chunks = (segments[: self.hop, :, 1:] + segments[self.hop :, :, :-1]) / 2
        batch, width = segments.shape[1], segments.shape[3]
        return chunks.permute(1, 2, 0, 3).reshape(batch, -1, width)[:, : self.length]

    def padding(self, device: torch.device | None = None) -> Tensor:
        """Which places hold no frame, ``(K, S)``, boolean."""
        frame = self.frame_positions(device)
        return (frame < 0) | (frame >= self.length)

    def frame_positions(self, device: torch.device | None = None) -> Tensor:
        """Index of the frame at every place ``(K, S)``; negative, or ``length`` and more, in the padding."""
        column = torch.arange(self.size, device=device)
        segment = torch.arange(self.num_segments, device=device)
        return column[:, None] + (segment[None] - 1) * self.hop


def merge_segments(segments: Tensor, width: int, padding: Tensor) -> Tensor:
    """Average neighbouring columns ``(K, B, S, d)`` down to ``(width, B, S, d)`` (MergeSegments).

    Padding ``(K, S)`` counts for nothing: it must hold zeros, and each mean is over the real frames only.
    """
    size, batch, num_segments, depth = segments.shape
    count = (~padding).view(width, size // width, num_segments).sum(dim=1).clamp(min=1)
    total = segments.view(width, size // width, batch, num_segments, depth).sum(dim=1)
    return total / count[:, None, :, None]


def repeat_segments(merged: Tensor, size: int) -> Tensor:
    """Repeat columns ``(width, B, S, d)`` up to ``(size, B, S, d)`` (RepeatSegments)."""
    width, batch, num_segments, depth = merged.shape
    return merged[:, None].expand(-1, size // width, -1, -1, -1).reshape(size, batch, num_segments, depth)
