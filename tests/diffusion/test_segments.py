"""Segmentation and its inverse, for any length and size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melody.diffusion.segments import Segmentation, merge_segments, repeat_segments
from melody.errors import MelodyError

lengths = st.integers(1, 200)
sizes = st.integers(1, 20).map(lambda half: 2 * half)


@settings(deadline=None)
@given(length=lengths, size=sizes, extra=st.integers(0, 3))
def test_overlap_add_undoes_segmentation(length: int, size: int, extra: int) -> None:
    fewest = Segmentation.of(length, size)
    segmentation = Segmentation(length, size, fewest.num_segments + extra)
    frames = torch.randn(2, length, 3)
    torch.testing.assert_close(segmentation.overlap_add(segmentation.split(frames)), frames)


@settings(deadline=None)
@given(length=lengths, size=sizes)
def test_every_frame_lies_in_two_places_and_the_rest_is_zero(length: int, size: int) -> None:
    segmentation = Segmentation.of(length, size)
    frames = torch.arange(1.0, length + 1)[None, :, None]
    segments = segmentation.split(frames)[:, 0, :, 0]  # (K, S)
    padding = segmentation.padding()
    assert torch.equal(segments == 0, padding)
    assert torch.equal(segments[~padding].sort().values, frames.flatten().repeat_interleave(2))
    assert torch.equal(segments[~padding] - 1, segmentation.frame_positions()[~padding].float())
    assert not padding.all(dim=0).any(), "a segment that is all padding is one too many"


def test_the_paper_has_80_segments() -> None:
    assert Segmentation.of(2500, 64).num_segments == 80  # main text


def test_segments_overlap_by_half() -> None:
    segments = Segmentation.of(10, 4).split(torch.arange(1.0, 11)[None, :, None])
    assert segments[:, 0, :, 0].T.tolist() == [
        [0, 0, 1, 2],
        [1, 2, 3, 4],
        [3, 4, 5, 6],
        [5, 6, 7, 8],
        [7, 8, 9, 10],
        [9, 10, 0, 0],
    ]


def test_chunks_are_the_halves_of_segments() -> None:
    segmentation = Segmentation.of(37, 8)
    frames = torch.randn(2, 37, 3)
    chunks, segments = segmentation.chunk(frames), segmentation.split(frames)
    assert torch.equal(chunks[:, :, :-1], segments[:4])
    assert torch.equal(chunks[:, :, 1:], segments[4:])


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_merging_averages_the_real_frames_of_neighbouring_columns(width: int) -> None:
    segmentation = Segmentation.of(21, 8)
    segments, padding = segmentation.split(torch.randn(2, 21, 3)), segmentation.padding()
    merged = merge_segments(segments, width, padding)
    assert merged.shape == (width, 2, segmentation.num_segments, 3)
    step = 8 // width
    for column in range(width):
        for segment in range(segmentation.num_segments):
            real = [k for k in range(column * step, (column + 1) * step) if not padding[k, segment]]
            expected = segments[real, :, segment].mean(dim=0) if real else torch.zeros(2, 3)
            torch.testing.assert_close(merged[column, :, segment], expected)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_repeating_restores_the_columns(width: int) -> None:
    merged = torch.randn(width, 2, 5, 3)
    repeated = repeat_segments(merged, 8)
    assert repeated.shape == (8, 2, 5, 3)
    for column in range(8):
        assert torch.equal(repeated[column], merged[column * width // 8])
    torch.testing.assert_close(merge_segments(repeated, width, torch.zeros(8, 5, dtype=torch.bool)), merged)


@pytest.mark.parametrize(("length", "size"), [(0, 8), (10, 7), (10, 0)])
def test_bad_sizes_are_named(length: int, size: int) -> None:
    with pytest.raises(MelodyError, match="expected"):
        Segmentation.of(length, size)
