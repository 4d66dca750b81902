"""The table of protocols, and each difference between its rows on a signal that shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melody.embedders.fad_protocols import (
    EMBEDDED,
    FADTK_CLAP,
    GOOGLE,
    PROTOCOLS,
    TORCHVGGISH,
    TORCHVGGISH_STRIPPED,
    fad_protocol,
    prepared,
    windows,
)
from melody.errors import MelodyError
from melody.metrics.frechet import Statistics


def test_the_table_is_the_published_one() -> None:
    rows = {
        p.name: (p.sample_rate, p.window_s, p.hop_s, p.peak_normalised, p.int16, p.relu, p.last)
        for p in PROTOCOLS.values()
    }
    assert rows == {
        "google-fad": (16_000, 0.96, 0.5, True, False, False, "dropped"),
        "torchvggish-fad": (16_000, 0.96, 0.96, False, False, True, "dropped"),
        "torchvggish-fad-stripped": (16_000, 0.96, 0.96, False, False, False, "dropped"),
        "fadtk-clap": (48_000, 10.0, 1.0, False, True, False, "padded"),
        "embedded": (24_000, 1.0, 0.5, False, False, False, "dropped"),
    }


def test_the_covariance_of_every_protocol_is_the_distances_own() -> None:
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    covariance = Statistics.of(rows.double()).covariance
    for protocol in PROTOCOLS.values():
        expected = np.cov(rows.double().numpy(), rowvar=False, ddof=protocol.ddof)
        np.testing.assert_allclose(covariance.numpy(), expected, atol=1e-12)


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(MelodyError, match=r"'google'; did you mean 'google-fad'"):
        fad_protocol("google")


@pytest.mark.parametrize(("seconds", "expected"), [(0.3, 1), (0.999, 1), (1.0, 1), (1.49, 1), (1.5, 2), (10.0, 19)])
def test_google_wants_a_whole_second_every_half_second(seconds: float, expected: int) -> None:
    assert len(windows(torch.zeros(round(seconds * 16_000)), GOOGLE)) == expected


@pytest.mark.parametrize("samples", [100, 15_599, 15_600, 30_959, 30_960, 160_000])
def test_the_port_cuts_examples_out_of_the_clips_whole_spectrogram(samples: int) -> None:
    frames = 1 + (samples - 400) // 160
    expected = max(1, frames // 96)
    clip = torch.arange(float(samples))
    cut = windows(clip, TORCHVGGISH)
    assert len(cut) == expected == len(windows(clip, TORCHVGGISH_STRIPPED))
    assert cut[:, 0].tolist() == [96 * 160 * index for index in range(expected)]


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, 1), (1.0, 1), (1.5, 2), (10.0, 10), (12.0, 12)])
def test_fadtk_begins_a_window_every_second_and_pads_the_last_ones(seconds: float, expected: int) -> None:
    cut = windows(torch.ones(round(seconds * 48_000)), FADTK_CLAP)
    assert cut.shape == (expected, 480_000)
    assert float(cut[-1].sum()) == round((seconds - (expected - 1)) * 48_000)  # the rest is zeros


def test_google_divides_by_the_largest_sample_and_not_by_less_than_a_tenth() -> None:
    quiet = torch.tensor([0.05, -0.02])
    torch.testing.assert_close(prepared(quiet, GOOGLE), quiet / 0.1)
    lopsided = torch.tensor([0.25, -0.5])  # the largest sample, not the largest magnitude
    torch.testing.assert_close(prepared(lopsided, GOOGLE), torch.tensor([1.0, -2.0]))


@pytest.mark.parametrize("protocol", [TORCHVGGISH, TORCHVGGISH_STRIPPED, EMBEDDED])
def test_the_others_take_samples_as_they_are(protocol: object) -> None:
    clip = torch.tensor([0.25, -1.5, 1e-6])
    assert torch.equal(prepared(clip, protocol), clip)  # type: ignore[arg-type]


def test_fadtk_clips_and_rounds_towards_zero_to_16_bits() -> None:
    clip = torch.tensor([1.5, -1.5, 0.9 / 32_767, -0.9 / 32_767, 100.7 / 32_767])
    torch.testing.assert_close(prepared(clip, FADTK_CLAP), torch.tensor([1.0, -1.0, 0.0, 0.0, 100.0 / 32_767]))
