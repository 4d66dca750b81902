"""Weight files: round trip, refusal of what is damaged or foreign, nothing half-written."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from melody.artifacts.weights import load_weights, save_weights
from melody.errors import MelodyError

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


def _refusal(path: Path, component: dict[str, object] = COMPONENT) -> str:
    """What loading the file says; the test fails where it is loaded."""
    with pytest.raises(MelodyError) as caught:
        load_weights(nn.Linear(3, 2), path, component, wanted="preset 'mine'")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _rewrite(path: Path, metadata: dict[str, str] | None = None, **tensors: torch.Tensor | None) -> None:
    """Edit a file behind the library's back: tensors set, or removed by None; metadata replaced."""
    with safe_open(str(path), framework="pt") as file:
        old = dict(file.metadata())
    content = {name: tensor for name, tensor in {**load_file(path), **tensors}.items() if tensor is not None}
    save_file(content, path, old if metadata is None else metadata)


def test_weights_of_another_component_are_refused_with_both_names(tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    save_weights(nn.Linear(3, 2), path, COMPONENT, preset="theirs")
    message = r"holds weights of 'linear' \(preset 'theirs'\), but preset 'mine' wants 'other'$"
    assert re.search(message, _refusal(path, {"use": "other", "arguments": {}}))


def test_the_argument_that_differs_is_named_with_both_values(saved: Path) -> None:
    other = {"use": "linear", "arguments": {"size": 4, "bias": True}}
    message = "holds weights of 'linear' with bias = null, size = 3, but preset 'mine' wants bias = true, size = 4$"
    assert re.search(message, _refusal(saved, other))


class Scale(nn.Module):
    def __init__(self, size: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), gain))


def test_an_argument_that_came_later_has_its_default_in_older_files(tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    save_weights(Scale(2, 3.0), path, {"use": "scale", "arguments": {"size": 2}})
    load_weights(Scale(2), path, {"use": "scale", "arguments": {"size": 2, "gain": 1.0}})
    with pytest.raises(MelodyError, match=r"with gain = 1.0, but preset 'mine' wants gain = 2.0$"):
        load_weights(Scale(2), path, {"use": "scale", "arguments": {"size": 2, "gain": 2.0}}, wanted="preset 'mine'")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"bias": None}, "it lacks tensor 'bias'"),
        ({"gain": torch.ones(2), "shift": torch.ones(2)}, "it holds an unknown tensor, 'gain' and 1 more"),
        ({"bias": torch.tensor([1.0, float("nan")])}, "tensor 'bias' holds NaN or infinity"),
        ({"weight": torch.full((2, 3), float("inf"))}, "tensor 'weight' holds NaN or infinity"),
        ({"weight": torch.ones(2, 4)}, r"tensor 'weight' has shape \(2, 4\), expected \(2, 3\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved: Path, tensors: dict[str, torch.Tensor | None], message: str) -> None:
    _rewrite(saved, **tensors)
    assert re.search(message, _refusal(saved))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "3", "component": "{}"}, "has weights of format '3', expected '2'"),
        ({"format": "pt"}, "names no version of the format, expected '2'"),
        ({"format_version": "1"}, "does not say which component its weights belong to"),
    ],
)
def test_files_of_another_format_are_refused(saved: Path, metadata: dict[str, str], message: str) -> None:
    _rewrite(saved, metadata)
    assert re.search(message, _refusal(saved))


@pytest.mark.parametrize("kept", [0, 4, 40, -5])
def test_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    assert re.search("cannot read weights .*: truncated, damaged or not safetensors", _refusal(saved))


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (canary,)

    path = tmp_path / "part.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    assert re.search("not safetensors, and pickles are never opened", _refusal(path))
    path.rename(tmp_path / "part.pt")
    assert re.search(r"no such file \(part.pt beside it: pickles are never opened as weights\)", _refusal(path))
    assert not canary.exists()


def test_float32_is_kept_to_the_bit_on_request(tmp_path: Path) -> None:
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / "part.safetensors"
    save_weights(module, path, COMPONENT, dtype="float32")
    load_weights(other, path, COMPONENT)
    assert torch.equal(other.weight, module.weight)
    assert load_file(path)["weight"].dtype == torch.float32
    with pytest.raises(MelodyError, match="unknown precision 'float23'; did you mean 'float32'"):
        save_weights(module, path, COMPONENT, dtype="float23")  # type: ignore[arg-type]


def test_tied_tensors_are_saved(tmp_path: Path) -> None:
    module = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    module[1].weight = module[0].weight
    save_weights(module, tmp_path / "part.safetensors", COMPONENT, dtype="float32")
    loaded = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    load_weights(loaded, tmp_path / "part.safetensors", COMPONENT)
    assert torch.equal(loaded[0].weight, module[0].weight)
    assert torch.equal(loaded[1].weight, module[0].weight)


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
