"""Weight files: round trip, refusal of what is damaged or foreign, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from melody.errors import MelodyError
from melody.weights import load_weights, save_weights

COMPONENT = {"use": "linear", "arguments": {"size": 3}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "part.safetensors"
    save_weights(nn.Linear(3, 2), path, COMPONENT)
    return path


def test_round_trip_keeps_float16_values_and_integers(tmp_path: Path) -> None:
    module = nn.BatchNorm1d(3)
    module.num_batches_tracked += 70_001
    nn.init.uniform_(module.weight)
    path = tmp_path / "part.safetensors"
    save_weights(module, path, COMPONENT)
    other = nn.BatchNorm1d(3)
    load_weights(other, path, COMPONENT)
    assert torch.equal(other.weight, module.weight.half().float())
    assert other.num_batches_tracked == 70_001
    assert other.weight.dtype == torch.float32


def test_weights_of_another_component_are_refused_with_both_names(saved: Path) -> None:
    with pytest.raises(MelodyError, match=r'holds weights of .*"linear".*but the preset wants .*"other"'):
        load_weights(nn.Linear(3, 2), saved, {"use": "other", "arguments": {}})


def test_another_shape_is_refused(saved: Path) -> None:
    with pytest.raises(MelodyError, match="does not fit the component: .*size mismatch"):
        load_weights(nn.Linear(4, 2), saved, COMPONENT)


def test_truncated_file_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-5])
    with pytest.raises(MelodyError, match="cannot read weights"):
        load_weights(nn.Linear(3, 2), saved, COMPONENT)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"cannot read weights .*absent\.safetensors: no such file"):
        load_weights(nn.Linear(3, 2), tmp_path / "absent.safetensors", COMPONENT)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_values_that_are_not_finite_in_float16_are_not_written_and_the_old_file_stays(
    saved: Path, value: float
) -> None:
    before = saved.read_bytes()
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, value)
    with pytest.raises(MelodyError, match="not finite in float16"):
        save_weights(module, saved, COMPONENT)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
