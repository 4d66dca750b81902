"""Forward passes of the networks in the loop, by formula, and their count on real runs.

- A pass is one call of a network's forward. A batch is one call; a call on both halves of guidance is one pass
  here, and two in the weighted count. A pass of one network is not a pass of another: beside the passes belong
  seconds and arithmetic.
- The pipeline counts by hooks as it runs, and refuses a run in which the count differs from the formula.
- Direction: lower is better. Unit: passes a generation.

The paper's formulas (Table 3; T is the duration in seconds): MeLoDy 25·T + steps, MusicLM (25 + 200 + 400)·T,
Noise2Music 1000 + 800 + 800. What follows from them:

- 10 s, the abstract's 95.7 %:

>>> round(saving(melody_passes(10, 20), musiclm_passes(10)), 2)
95.68

- 30 s by the printed formulas, where the abstract says 99.6 %, which no printed formula gives:

>>> round(saving(melody_passes(30, 20), musiclm_passes(30)), 2)
95.89

- 30 s by Algorithm 2, which runs the sampler again for each 2.5 s beyond the first 10 s:

>>> round(saving(continued_passes(30, 20), musiclm_passes(30)), 2)
95.04

Source: Table 3 and Algorithm 2 of the paper. Version 1.
"""

from __future__ import annotations

import math

from melody.errors import MelodyError

SEMANTIC_RATE = 25
"""Semantic tokens a second (Table 3), MeLoDy's and MusicLM's."""
MUSICLM_RATES = (25, 200, 400)
"""Semantic, coarse and fine tokens a second (Table 3): 50 Hz × 4 and × 8 levels."""
FINE_FRAME_RATE = 50
"""Of the codec whose frames hold 8 fine tokens each."""
FINE_WINDOW_S = 3.0
"""MusicLM's crop of fine tokens (its section 4.1)."""
SEGMENT_S = 10.0
CHUNKS = 4
"""M of Algorithm 2."""


def melody_passes(duration_s: float, num_steps: int, evaluations_per_step: int = 1) -> int:
    """25·T + steps (Table 3), at any duration with one sampler run, times the sampler's evaluations a step.

    >>> melody_passes(10, 20)
    270
    """
    _check(duration_s, num_steps, evaluations_per_step)
    return _tokens(duration_s, SEMANTIC_RATE) + num_steps * evaluations_per_step


def continued_passes(
    duration_s: float, num_steps: int, evaluations_per_step: int = 1, *, round_tokens_up: bool = False
) -> int:
    """Passes by Algorithms 1 and 2: 10 s at first, then 2.5 s a continuation, each with a sampler run of its own.

    Algorithm 2 prints ⌈T_ST / M⌉ = ⌈250 / 4⌉ = 63 tokens a continuation, half a token more than 2.5 s hold.

    Args:
        round_tokens_up: count those 63; otherwise as many as the audio holds (62 and 63 in turn), as our pipeline
            draws.

    >>> continued_passes(30, 20), continued_passes(30, 20, round_tokens_up=True)
    (930, 934)
    """
    _check(duration_s, num_steps, evaluations_per_step)
    if duration_s <= SEGMENT_S:
        return melody_passes(duration_s, num_steps, evaluations_per_step)
    chunk_s = SEGMENT_S / CHUNKS
    continuations = math.ceil((duration_s - SEGMENT_S) / chunk_s - 1e-9)
    segment_tokens = _tokens(SEGMENT_S, SEMANTIC_RATE)
    tokens = _tokens(SEGMENT_S + continuations * chunk_s, SEMANTIC_RATE)
    if round_tokens_up:
        tokens = segment_tokens + continuations * math.ceil(segment_tokens / CHUNKS)
    return tokens + (1 + continuations) * num_steps * evaluations_per_step


def musiclm_passes(duration_s: float) -> int:
    """(25 + 200 + 400)·T (Table 3): one pass a token of each of the three stages.

    >>> musiclm_passes(10)
    6250
    """
    _check(duration_s, 1, 1)
    return sum(_tokens(duration_s, rate) for rate in MUSICLM_RATES)


def musiclm_serial_passes(duration_s: float) -> int:
    """(25 + 200)·T and the tokens of one fine window, where all fine windows are one batch (derived).

    The fewest windows of at most 3 s, all of one length: 10 s are four of 2.5 s, and so 250 + 2,000 + 1,000 passes.

    >>> musiclm_serial_passes(10), musiclm_serial_passes(30)
    (3250, 7950)
    """
    _check(duration_s, 1, 1)
    semantic, coarse, fine = MUSICLM_RATES
    frames = _tokens(duration_s, FINE_FRAME_RATE)
    window = -(-frames // math.ceil(frames / (FINE_WINDOW_S * FINE_FRAME_RATE)))
    return _tokens(duration_s, semantic) + _tokens(duration_s, coarse) + window * fine // FINE_FRAME_RATE


def saving(ours: float, theirs: float) -> float:
    """How many per cent of ``theirs`` are saved: 100 · (1 − ours / theirs).

    >>> saving(1, 4)
    75.0
    """
    if not (math.isfinite(ours) and math.isfinite(theirs) and theirs > 0):
        raise MelodyError(f"saving: got {ours} against {theirs}; expected finite numbers, the second above 0")
    return 100 * (1 - ours / theirs)


def _tokens(duration_s: float, rate: int) -> int:
    # Rounding of the duration must not add a token: 0.28 s hold 7.000000000000001 at 25 Hz.
    return math.ceil(duration_s * rate - 1e-9)


def _check(duration_s: float, num_steps: int, evaluations_per_step: int) -> None:
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise MelodyError(f"passes: the duration is {duration_s} s; expected more than 0")
    if num_steps < 1 or evaluations_per_step < 1:
        raise MelodyError(
            f"passes: {num_steps} steps of {evaluations_per_step} evaluations; expected 1 or more of each"
        )
