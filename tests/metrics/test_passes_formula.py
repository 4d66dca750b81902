"""The paper's arithmetic: passes by formula, and what they save."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melody.errors import MelodyError
from melody.metrics.passes import (
    continued_passes,
    melody_passes,
    musiclm_passes,
    saving,
)


def test_table_3_and_the_claims() -> None:
    assert (melody_passes(10, 20), musiclm_passes(10)) == (270, 6250)
    assert (melody_passes(30, 20), continued_passes(30, 20), musiclm_passes(30)) == (770, 930, 18_750)
    assert saving(270, 6250) == pytest.approx(95.68)
    assert saving(770, 18_750) == pytest.approx(95.893, abs=1e-3)
    assert saving(930, 18_750) == pytest.approx(95.04)


def test_algorithm_2_as_printed_draws_63_tokens_a_continuation() -> None:
    assert continued_passes(12.5, 20, round_tokens_up=True) == 250 + 63 + 2 * 20
    assert continued_passes(12.5, 20) == 313 + 2 * 20
    assert continued_passes(30, 20, round_tokens_up=True) == 250 + 8 * 63 + 9 * 20


def test_evaluations_a_step_count() -> None:
    assert melody_passes(10, 20, 2) == 290
    assert continued_passes(15, 10, 2) == 375 + 3 * 20


@given(st.floats(0.01, 10), st.integers(1, 100), st.integers(1, 3))
def test_one_segment_is_one_sampler_run(duration_s: float, num_steps: int, evaluations: int) -> None:
    assert continued_passes(duration_s, num_steps, evaluations) == melody_passes(duration_s, num_steps, evaluations)


@given(st.floats(0.01, 600), st.integers(1, 50))
def test_longer_is_never_cheaper(duration_s: float, num_steps: int) -> None:
    passes = continued_passes(duration_s, num_steps)
    assert passes >= melody_passes(duration_s, num_steps)
    assert continued_passes(duration_s + 2.5, num_steps) > passes
    assert continued_passes(duration_s, num_steps, round_tokens_up=True) >= passes


def test_rounding_of_the_duration_adds_no_token() -> None:
    assert 0.28 * 25 > 7
    assert melody_passes(0.28, 1) == 8


@pytest.mark.parametrize("function", [melody_passes, continued_passes])
@pytest.mark.parametrize("arguments", [(0, 20), (-1, 20), (float("nan"), 20), (10, 0), (10, 20, 0)])
def test_bad_input_is_one_clear_line(function: object, arguments: tuple[float, ...]) -> None:
    with pytest.raises(MelodyError, match="expected"):
        function(*arguments)  # type: ignore[operator]


def test_saving_refuses_nothing_to_save() -> None:
    with pytest.raises(MelodyError, match="the second above 0"):
        saving(1, 0)
