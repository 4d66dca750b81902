"""Where foreign weights are looked for, and what is said when they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from melody.artifacts.weights import read_foreign
from melody.embedders.checkpoints import Published, filled, weights_file
from melody.errors import MelodyError

SOME = Published("some-net", ("some.safetensors", "some.pt"), "https://example.org/some")


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELODY_EMBEDDERS", raising=False)


def test_no_weights_names_the_file_the_source_and_the_option(tmp_path: Path) -> None:
    expected = r"some-net: .*expected some\.pt, usually from https://example\.org/some, given as some-net:weights=PATH"
    for given in ("", str(tmp_path), str(tmp_path / "absent.pt"), "absent/some.pt", "/no/where"):
        with pytest.raises(MelodyError, match=expected) as raised:
            weights_file(SOME, given)
        assert "\n" not in str(raised.value)


def test_a_file_a_folder_and_the_environments_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.pt").write_bytes(b"")
    assert weights_file(SOME, str(tmp_path / "some.pt")) == tmp_path / "some.pt"
    assert weights_file(SOME, str(tmp_path)) == tmp_path / "some.pt"
    monkeypatch.setenv("MELODY_EMBEDDERS", str(tmp_path))
    assert weights_file(SOME, "") == tmp_path / "some.pt"
    (tmp_path / "some-net").mkdir()
    (tmp_path / "some-net" / "some.safetensors").write_bytes(b"")
    assert weights_file(SOME, "") == tmp_path / "some-net" / "some.safetensors"
    monkeypatch.setenv("MELODY_EMBEDDERS", str(tmp_path / "absent"))
    with pytest.raises(MelodyError, match="MELODY_EMBEDDERS names .*absent, which is no folder"):
        weights_file(SOME, "")


def test_a_hub_id_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for wanted in ("owner/name", "owner/name@v1.0"):
        with pytest.raises(MelodyError, match="'owner/name' is here, and from the hub it cannot be had"):
            weights_file(SOME, wanted)


def test_a_checkpoint_with_numpy_arrays_beside_the_tensors_loads(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    torch.save({"model": {"weight": torch.ones(2)}, "sampler": {"queue": np.arange(3), "last": np.float64(1)}}, path)
    assert torch.equal(read_foreign(path, "some-net", "model")["weight"], torch.ones(2))


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo never > unpickled",)


def test_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for old in (False, True):
        torch.save(
            {"model": {"weight": torch.ones(2)}, "x": _Payload()}, "some.pt", _use_new_zipfile_serialization=not old
        )
        with pytest.raises(MelodyError, match="holds more than tensors and was not opened"):
            read_foreign(Path("some.pt"), "some-net", "model")
    assert not Path("unpickled").exists()


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)


def test_half_precision_is_computed_in_float32_and_nan_refused() -> None:
    tensors = {"layer.weight": torch.ones(1, 2).half(), "layer.bias": torch.zeros(1).half()}
    network = filled(_Small, tensors, "here")
    assert network.layer(torch.ones(1, 2)).item() == 2.0
    assert network.layer.weight.dtype == torch.float32
    with pytest.raises(MelodyError, match=r"here: tensor 'layer\.bias' holds NaN"):
        filled(_Small, {**tensors, "layer.bias": torch.full((1,), torch.nan)}, "here")
