"""The main paths from end to end: what the sessions for the oldest and for other releases of our libraries run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import torch

from melody.baselines.musiclm.system import MusicLmSystem
from melody.baselines.noise2music.system import Noise2MusicSystem
from melody.cli import main
from melody.config import load_preset
from melody.pipeline import load_part
from melody.reproduce.jobs.denoiser_ablation import FOLDER, PREFIX

GATE = """
title = "Main paths"

[[thresholds]]
suite = "small"
metric = "passes"
row = { num_steps = 2 }
max = 1000.0
"""


def _melody(*arguments: object) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert not caught.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_generate_with_the_shipped_weights(folder: Path) -> None:
    _melody("generate", "a slow piano piece in a minor key", "--duration", 1, "--steps", 2, "-o", "out.wav")
    samples, rate = soundfile.read("out.wav")
    assert (samples.shape, rate) == ((24_000,), 24_000)
    assert 0.001 < float(np.sqrt(np.mean(samples**2))) < 1.0


def test_evaluate_two_folders_to_a_page_and_json(folder: Path) -> None:
    rng, time = np.random.default_rng(0), np.arange(48_000) / 24_000
    for name, base in (("generated", 220.0), ("reference", 330.0)):
        (folder / name).mkdir()
        for i in range(20):
            stereo = np.sin(2 * np.pi * base * 2 ** (i / 12) * time)[:, None] * [0.2, 0.3]
            soundfile.write(folder / name / f"{i}.wav", stereo + 0.01 * rng.standard_normal(stereo.shape), 24_000)
    metrics = [part for name in ("fad", "fad-inf", "loudness", "silence-rate") for part in ("-m", name)]
    _melody("evaluate", "generated", "-r", "reference", *metrics, "--json", "scores.json", "--html", "scores.html")
    assert json.loads(Path("scores.json").read_text())
    assert "audio" in Path("scores.html").read_text(encoding="utf-8")


def test_a_table_its_gate_and_its_report(folder: Path, tiny_path: Path, tiny_weights: Path, small_suite: Path) -> None:
    _melody("reproduce", small_suite, "--preset", tiny_path, "--weights", tiny_weights, "-o", "out")
    (folder / "gate.toml").write_text(GATE)
    _melody("gate", "out", "--thresholds", "gate.toml", "--junit", "gate.xml")
    assert ElementTree.parse("gate.xml").getroot().get("failures") == "0"
    _melody("report", "out")


def test_every_other_shipped_weight_loads() -> None:
    assert MusicLmSystem().sample_rate == Noise2MusicSystem().sample_rate == 24_000
    for path in sorted(FOLDER.glob("*.safetensors")):
        network = load_part(load_preset(PREFIX + path.stem.rpartition("-")[0]), "denoiser", path)
        assert all(torch.isfinite(p).all() for p in network.parameters())
