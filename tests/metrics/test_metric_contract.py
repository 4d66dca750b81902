"""What every metric of ours must keep: declared version and direction, states that merge by sum, refusals, counts."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import pytest
import torch
from torchmetrics.utilities import dim_zero_cat, dim_zero_sum

from melody.errors import MelodyError
from melody.protocols import CONTROLS
from melody.registry import metrics

Update = dict[str, Any]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clips(seed: int) -> Update:
    return {"waveform": 0.3 * draw(seed, 2, 1, 24_000)}


def long_clip(seed: int) -> Update:
    return {"waveform": 0.3 * draw(seed, 1, 1, 120_000)}


def windows(seed: int) -> Update:
    return {"embeddings": draw(seed, 12 + seed % 3, 48) + 0.1 * (seed % 2), "real": seed % 2 == 0}


def labels(seed: int) -> Update:
    return {"logits": draw(seed, 2 + seed % 2, 527), "real": seed % 2 == 0}


def joint(seed: int) -> Update:
    text = draw(seed, 12, 8)
    return {"text_embeddings": text, "audio_embeddings": text + draw(seed + 9, 12, 8)}


def waveforms(seed: int) -> Update:
    return {"preds": 0.3 * draw(seed, 2, 1, 3000), "target": 0.3 * draw(seed + 1, 2, 1, 3000)}


UPDATES: dict[str, list[Update]] = {
    "beat-strength": [long_clip(seed) for seed in range(4)],
    "coverage": [windows(seed) for seed in range(4)],
    "density": [windows(seed) for seed in range(4)],
    "fad-inf": [windows(seed) for seed in range(10)],
    "fad-per-clip": [windows(seed) for seed in range(4)],
    "kad": [windows(seed) for seed in range(4)],
    "kl": [{"preds": draw(seed, 2, 9), "target": draw(seed + 5, 3, 9)} for seed in range(4)],
    "kl-pooled": [labels(seed) for seed in range(4)],
    "label-is": [labels(seed) for seed in range(6)],
    "log-mel": [waveforms(seed) for seed in range(4)],
    "median-rank": [joint(seed) for seed in range(4)],
    "mr-stft": [waveforms(seed) for seed in range(4)],
    "precision": [windows(seed) for seed in range(4)],
    "recall": [windows(seed) for seed in range(4)],
    "recall-at-1": [joint(seed) for seed in range(4)],
    "recall-at-5": [joint(seed) for seed in range(4)],
    "recall-at-10": [joint(seed) for seed in range(4)],
    "si-sdr": [waveforms(seed) for seed in range(4)],
    "clipping-rate": [clips(seed) for seed in range(4)],
    "fad": [{"embeddings": draw(seed, 60, 48), "real": seed % 2 == 0} for seed in range(4)],
    "key-clarity": [long_clip(seed) for seed in range(4)],
    "loudness": [clips(seed) for seed in range(4)],
    "mcc": [{"text_embeddings": draw(seed, 3, 8), "audio_embeddings": draw(seed + 9, 3, 8)} for seed in range(4)],
    "peak": [clips(seed) for seed in range(4)],
    "repetition": [long_clip(seed) for seed in range(4)],
    "si-snr": [{"preds": draw(seed, 3, 50), "target": draw(seed + 1, 3, 50)} for seed in range(4)],
    "silence-rate": [clips(seed) for seed in range(4)],
    "structure": [long_clip(seed) for seed in range(4)],
    "tempo-stability": [long_clip(seed) for seed in range(4)],
}
OURS = [entry.name for entry in metrics.entries() if entry.in_tree]


def filled(name: str, updates: list[Update]) -> Any:
    metric = metrics.create(name)
    for update in updates:
        metric.update(**update)
    return metric


def broken(update: Update) -> Update:
    """The same update with a NaN in its first tensor (or number)."""
    name, value = next(iter(update.items()))
    return {**update, name: torch.full_like(value, math.nan) if isinstance(value, torch.Tensor) else math.nan}


@pytest.mark.parametrize("name", OURS)
def test_declares_itself(name: str) -> None:
    metric = metrics.get(name)
    assert metric.direction in ("lower", "higher", "none")
    assert isinstance(metric.unit, str)
    definition = sys.modules[metric.__module__].__doc__ or ""
    assert f"``{name}``" in definition
    assert re.search(rf"Version {metric.version}\b", definition)
    assert metrics.entry(name).sentence.endswith(".")
    if metric.input_kind != "other":
        assert metric.tells is not None, "say which controls it claims to tell from music"
        assert metric.tells <= set(CONTROLS)


@pytest.mark.parametrize("name", OURS)
def test_states_merge(name: str) -> None:
    """By sum; or, of what keeps every vector, by concatenation in any order."""
    updates = UPDATES[name]
    whole, first, second = filled(name, updates), filled(name, updates[:1]), filled(name, updates[1:])
    assert set(whole._reductions.values()) in ({dim_zero_sum}, {dim_zero_cat})
    for state in whole._defaults:
        parts, all_of_it = getattr(first, state) + getattr(second, state), getattr(whole, state)
        if isinstance(all_of_it, list):
            parts, all_of_it = torch.cat(parts), torch.cat(all_of_it)
        torch.testing.assert_close(parts, all_of_it)
    scored = first.scored + second.scored
    first.merge_state(second)
    assert float(first.compute()) == pytest.approx(float(whole.compute()), rel=1e-9)
    assert first.scored == whole.scored == scored > 0


@pytest.mark.parametrize("name", OURS)
def test_order_does_not_matter_and_reset_forgets(name: str) -> None:
    metric = filled(name, UPDATES[name])
    value = float(metric.compute())
    assert float(filled(name, UPDATES[name][::-1]).compute()) == pytest.approx(value, rel=1e-9)
    metric.reset()
    assert metric.scored == 0


@pytest.mark.parametrize("name", OURS)
def test_refuses_nan_in_one_line_and_keeps_what_it_had(name: str) -> None:
    metric = filled(name, UPDATES[name])
    value = float(metric.compute())
    with pytest.raises(MelodyError) as error:
        metric.update(**broken(UPDATES[name][0]))
    assert "\n" not in str(error.value)
    metric._computed = None
    assert float(metric.compute()) == value


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("name", OURS)
def test_refuses_to_compute_from_nothing_and_goes_on_afterwards(name: str) -> None:
    metric = metrics.create(name)
    with pytest.raises(MelodyError):
        metric.compute()
    for update in UPDATES[name]:
        metric.update(**update)
    assert float(metric.compute()) == float(filled(name, UPDATES[name]).compute())
