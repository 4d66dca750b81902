"""Numbers over prompts and seeds keep what their items are called, and pair by that alone."""

from __future__ import annotations

import numpy as np
import pytest

from melody.errors import MelodyError
from melody.evaluation.levels import over_seeds, paired
from melody.evaluation.result import Measurement
from melody.evaluation.scoring import MetricValue


def _over(names: list[str], seeds: int = 3) -> Measurement:
    rng = np.random.default_rng(0)
    values = {}
    for seed in range(seeds):
        clips = dict(zip(names, rng.standard_normal(len(names)).tolist(), strict=True))
        values[seed] = MetricValue(value=float(np.mean(list(clips.values()))), scored=len(names), clips=clips)
    return over_seeds(values, len(names) * seeds, None)


def test_a_mean_over_prompts_knows_its_prompts() -> None:
    first, last = _over(["a", "b", "c"]), _over(["b", "c", "d"])
    assert first.sample is not None
    assert first.sample.items == ["a", "b", "c"]
    assert paired(first, first).value == 0
    with pytest.raises(MelodyError, match="the two lost different clips, so that prompts do not pair"):
        paired(first, last)


def test_seeds_that_lost_different_clips_have_no_mean() -> None:
    values = {
        seed: MetricValue(value=1.5, scored=2, clips=clips)
        for seed, clips in enumerate(({"a": 1.0, "b": 2.0}, {"b": 1.0, "c": 2.0}))
    }
    with pytest.raises(MelodyError, match="the seeds lost different clips"):
        over_seeds(values, 4, None)
