"""The clock: what is timed, what is not, and how factors merge."""

from __future__ import annotations

import time
from unittest.mock import patch

import pytest
import torch

from melody.errors import MelodyError
from melody.metrics.real_time_factor import Timing, real_time_factor, samples_per_second, time_calls


def test_warm_up_is_called_and_not_timed() -> None:
    calls: list[float] = []

    def slow_at_first() -> None:
        time.sleep(0.2 if not calls else 0.01)
        calls.append(0)

    timing = time_calls(slow_at_first, warmup=1, repeats=3)
    assert len(calls) == 4
    assert len(timing.seconds) == 3
    assert 0.01 <= timing.median_s < 0.15


def test_median_shrugs_off_one_slow_run() -> None:
    assert Timing((1.0, 9.0, 1.2), warmup=1).median_s == 1.2


def test_device_is_synchronised_before_each_reading_of_the_clock() -> None:
    order: list[str] = []
    with (
        patch("torch.cuda.synchronize", side_effect=lambda device: order.append("synchronize")),
        patch("time.perf_counter", side_effect=lambda: order.append("clock") or 0.0),
    ):
        time_calls(lambda: order.append("call"), warmup=0, repeats=1, device="cuda")
    assert order == ["synchronize", "clock", "call", "synchronize", "clock"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_timing_waits_for_the_gpu() -> None:
    matrix = torch.randn(8192, 8192, device="cuda")
    timing = time_calls(lambda: matrix @ matrix @ matrix, repeats=3, device="cuda")
    begin = time.perf_counter()
    _ = matrix @ matrix @ matrix
    launched = time.perf_counter() - begin
    assert timing.median_s > 5 * launched


def test_table_2_in_both_units() -> None:
    assert real_time_factor(10, 10 * 24_000 / 181_100) == pytest.approx(7.546, abs=1e-3)  # printed as 7.5×
    assert samples_per_second(181_100 / 24_000) == pytest.approx(181_100)


@pytest.mark.parametrize(("audio_s", "wall_s"), [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_bad_input_is_one_clear_line(audio_s: float, wall_s: float) -> None:
    with pytest.raises(MelodyError, match="expected both above 0"):
        real_time_factor(audio_s, wall_s)


def test_timing_refuses_no_repeats() -> None:
    with pytest.raises(MelodyError, match="0 repeats"):
        time_calls(lambda: None, repeats=0)
