"""The page of the published samples: what is kept renders to it; and both scripts, on a small stand-in."""

from __future__ import annotations

import csv
import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from melody.artifacts.files import file_hash
from melody.config import load_preset
from melody.embedders.mel_stats import MelStats
from melody.errors import MelodyError
from melody.pipeline import shipped_weights

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "reports"
RATE = 24_000
PROMPTS = 6


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("published_samples", "published_page", "protocol_spread")
    samples, page, spread = (import_module(name) for name in names)
    return samples, page, spread


def _sound(place: int, system: str, seconds: float = 6.0) -> np.ndarray:
    """Pulses of a tone in noise; the second system's are louder."""
    time = np.arange(round(seconds * RATE)) / RATE
    beats = np.exp(-8 * ((time * (1.5 + place / 7)) % 1.0))
    noise = np.random.default_rng([place, len(system)]).standard_normal(len(time))
    gain = 0.6 if system == "musiclm" else 0.2
    samples: np.ndarray = gain * (beats * np.sin(2 * np.pi * 220 * 2 ** (place / 12) * time) + 0.02 * noise)
    return samples


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder as that of the published samples, smaller."""
    folder = tmp_path / "samples"
    rows = [("file_name", "text", "system", "category", "angle_schedule", "num_steps")]
    for place in range(PROMPTS):
        for system in ("melody", "musiclm"):
            name = f"musiclm-prompts/kind/piece-{place}.{system}.flac"
            rows.append((name, f"piece {place}", system, "kind", "", ""))
    for place in range(2):
        for schedule in ("linear", "uniform"):
            name = f"angle-schedules/piece_{place}.{schedule}.10.flac"
            rows.append((name, f"piece {place}", "melody", "angle-schedules", schedule, "10"))
    for number, (name, _, system, *_) in enumerate(rows[1:]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, _sound(number // 2, system), RATE, subtype="PCM_16")
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture
def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPORTS / "published-samples.json").read_text(encoding="utf-8"))
    return found


def test_the_kept_page_is_what_the_kept_numbers_render_to(
    scripts: tuple[ModuleType, ...], kept: dict[str, Any]
) -> None:
    assert (REPORTS / "published-samples.md").read_text(encoding="utf-8") == scripts[1].page(kept)
    assert (REPORTS / "published-samples.png").read_bytes().startswith(b"\x89PNG")


def test_the_kept_page_is_of_all_samples_and_of_the_shipped_weights(kept: dict[str, Any]) -> None:
    assert kept["paired"]["pairs"] == 64
    assert [kept["schedules"][steps]["pairs"] for steps in ("10", "20")] == [3, 3]
    page = (REPORTS / "published-samples.md").read_text(encoding="utf-8")
    weights = shipped_weights(load_preset("demo")) / "joint_embedder.safetensors"
    assert file_hash(weights) in page
    for fact in ("seed", "torch", "commit", "SHA-256", "mel-stats"):
        assert fact in page


@pytest.mark.parametrize("name", ["published-samples.md", "published-samples.json"])
def test_the_kept_files_hold_no_path_of_a_machine(name: str) -> None:
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", (REPORTS / name).read_text(encoding="utf-8"))


def test_the_command_writes_the_page_of_a_folder(
    scripts: tuple[ModuleType, ...], stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("sys.argv", ["published_samples.py", str(stand_in), "--out", str(out), "--swaps", "19"])
    scripts[0].main()
    found = json.loads((out / "published-samples.json").read_text(encoding="utf-8"))
    assert found["paired"]["pairs"] == PROMPTS
    loudness = next(row for row in found["paired"]["differences"] if row["name"] == "loudness")
    assert loudness["value"] == pytest.approx(20 * np.log10(0.2 / 0.6), abs=0.5)
    assert found["swapped"]["observed"] > 5 * found["swapped_at_one_loudness"]["observed"]
    assert list(found["schedules"]) == ["10"]
    page = (out / "published-samples.md").read_text(encoding="utf-8")
    assert f"on {PROMPTS} prompts" in page
    assert "10 steps, 2 instruments" in page
    for text in (page, json.dumps(found)):
        assert str(tmp_path) not in text
    assert {path.name for path in out.iterdir()} == {f"published-samples.{end}" for end in ("json", "md", "png")}


def test_a_folder_without_one_of_the_systems_is_refused(
    scripts: tuple[ModuleType, ...], stand_in: Path, tmp_path: Path
) -> None:
    from melody.data.loading import load_corpus

    clips = [clip for clip in load_corpus(stand_in) if clip.attributes["system"] != "musiclm"]
    with pytest.raises(MelodyError, match="no samples by MusicLM"):
        scripts[0].staged(clips, tmp_path / "staged")


def test_what_moves_the_number(scripts: tuple[ModuleType, ...]) -> None:
    """Of one set beside the same at a third of its level: all of the distance is the level."""
    spread = scripts[2]
    loud = [torch.from_numpy(_sound(place, "musiclm")).float() for place in range(PROMPTS)]
    rows = {row.how: row for row in spread.by_mel_stats(([one / 3 for one in loud], loud))}
    base = rows["`mel-stats`, embedded (base)"]
    assert torch.equal(spread.embedded(loud[0]), MelStats().embed(loud[0]))
    assert base.value > 1
    assert rows["mean of channels"].value == rows["left channel"].value == base.value
    assert rows["−23 LUFS"].value < 1e-3 * base.value
    assert rows["files at 44.1 kHz, soxr HQ"].value == pytest.approx(base.value, rel=0.01)
    assert rows["1 s / 1 s"].value != base.value
    table = spread.table(list(rows.values()))
    assert table.count("\n") == len(rows) + 1
    assert re.search(r"−23 LUFS \| 6 \| \S+ \| −(?:99\.9\d|100\.00) %", table)
