"""LAION-CLAP as an audio embedder: for real in a process of its own, and its windows."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from melody.embedders.laion_clap import ClapFadtk, LaionClap
from melody.errors import MelodyError
from melody.registry import audio_embedders

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(importlib.util.find_spec("laion_clap") is None, reason="laion-clap is not installed")
def test_the_package_for_real_with_a_tiny_roberta_in_a_local_hub_cache(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    script = Path(__file__).with_name("real_laion_clap.py")
    (tmp_path / "weights").mkdir()
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "weights")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shape"] == [2, 512]  # 12 s: two windows, the last one moved back
    assert found["norms"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert found["difference"] < 1e-5
    assert found["fadtk_shape"] == [2, 512]  # 1.5 s: a window each second, zero-padded
    assert found["fadtk_difference"] < 1e-5
    assert found["texts"] == [2, 512]
    assert len(found["facts"]["weights_hash"]) == 64
    assert (found["facts"]["protocol"], found["facts"]["hop_s"]) == ("", 10.0)
    assert (found["fadtk_facts"]["protocol"], found["fadtk_facts"]["hop_s"]) == ("fadtk-clap", 1.0)


def test_windows_of_both_protocols() -> None:
    ours, fadtk = object.__new__(LaionClap), object.__new__(ClapFadtk)
    clip = torch.arange(1.0, 48_000 * 12 + 1) / 1e6
    assert torch.equal(ours.cut(clip), torch.stack([clip[:480_000], clip[-480_000:]]))
    assert fadtk.cut(clip).shape == (12, 480_000)
    assert float(fadtk.cut(clip)[-1, 48_000:].abs().sum()) == 0
    short = torch.tensor([0.5, -0.5])
    assert torch.equal(ours.cut(short), short.repeat(240_000)[None])  # repeated where fadtk pads


@pytest.mark.parametrize("name", ["laion-clap", "clap-fadtk"])
def test_missing_weights_name_file_source_and_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELODY_EMBEDDERS", raising=False)
    with pytest.raises(
        MelodyError, match=rf"{name}: no weights.*630k-audioset-best\.pt.*huggingface\.co/lukewys.*weights="
    ):
        audio_embedders.create(name)
