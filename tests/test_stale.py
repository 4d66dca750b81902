"""What a change of our code makes stale, in a copy of the package: wording nothing, a metric that metric alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import melody
from melody.artifacts.store import Store

PACKAGE = Path(melody.__file__).parent
WORDED = ("metrics/frechet.py", "metrics/levels.py", "diffusion/dual_path.py", "data/audio.py", "reproduce/context.py")
"""Modules on which the clips, what is heard of them, and the metrics hang."""
FAD_TWICE = ("return max(0.0, float(difference", "return 2 * max(0.0, float(difference")
LOUDNESS = ("OFFSET_DB = -0.691", "OFFSET_DB = -0.5")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package whose sources may be changed; weights are linked."""
    copy = tmp_path / "house"
    ignored = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(PACKAGE, copy / "melody", ignore=ignored)
    (copy / "melody" / "presets" / "weights").symlink_to(PACKAGE / "presets" / "weights")
    for name in ("eval", "baselines"):
        (copy / name).symlink_to(PACKAGE.parent / name)
    return copy


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0)
    for folder in ("clips", "reference"):
        (tmp_path / folder).mkdir()
        for name in "abcd":
            soundfile.write(tmp_path / folder / f"{name}.wav", 0.1 * noise.standard_normal(48_000), 24_000)
    return tmp_path / "clips"


def _run(house: Path, *arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(house), "MELODY_CACHE": str(house.parent / "cache")}
    command = [sys.executable, "-m", "melody", *map(str, arguments), "--store", str(house.parent / "store")]
    done = subprocess.run(command, cwd=house.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _edit(house: Path, module: str, old: str, new: str) -> None:
    path = house / "melody" / module
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def _reword(house: Path) -> None:
    """A comment, a docstring and blank lines in each of five modules."""
    for module in WORDED:
        path = house / "melody" / module
        first, quotes, rest = path.read_text().partition('"""')
        path.write_text(f"# Reworded.\n\n\n{first}{quotes}Reworded. {rest}\n# The end.\n")


def test_wording_makes_no_reproduction_stale_and_a_metric_no_clip(
    house: Path, tiny_path: Path, tiny_weights: Path, small_suite: Path
) -> None:
    def reproduce() -> dict[str, Any]:
        options = ("--preset", tiny_path, "--weights", tiny_weights, "-o", house.parent / "out")
        _run(house, "reproduce", small_suite, *options)
        results: dict[str, Any] = json.loads((house.parent / "out" / "results.json").read_text())
        return results

    def fads(results: dict[str, Any]) -> list[float]:
        cells = results["tables"][0]["cells"]
        return [cell["measured"]["value"] for cell in cells if cell["column"] == "fad"]

    first = reproduce()
    assert first["cells_computed"] > 0
    _reword(house)
    again = reproduce()
    assert (again["cells_computed"], again["cells_reused"]) == (0, first["cells_computed"])
    assert again["tables"] == first["tables"]
    _edit(house, "metrics/frechet.py", *FAD_TWICE)
    changed = reproduce()
    assert not [share for share in changed["split"] if "generation" in share["work"]]
    assert fads(changed) == pytest.approx([2 * value for value in fads(first)])


def test_wording_makes_no_evaluation_stale_and_a_metric_that_metric(house: Path, clips: Path) -> None:
    def evaluate() -> dict[str, Any]:
        _run(house, "evaluate", clips, "-r", clips.with_name("reference"), "--json", house.parent / "out.json",
             "-m", "peak", "-m", "loudness", "-m", "kad")  # fmt: skip
        result: dict[str, Any] = json.loads((house.parent / "out.json").read_text())
        return result

    first = evaluate()
    known = _features(house)
    _reword(house)
    assert evaluate()["sounds_computed"] == 0
    _edit(house, "metrics/loudness.py", *LOUDNESS)
    again = evaluate()
    assert again["sounds_computed"] == first["sounds_computed"]
    for clip, features in _features(house).items():
        assert len(features - known[clip]) == 1, "the one metric, and nothing else of the clip"


def _features(house: Path) -> dict[str, set[str]]:
    store = Store(house.parent / "store")
    keys = [path.stem for path in store.folder.glob("features/*/*.safetensors")]
    records = {key: store.read("features", key) for key in keys}
    return {key: {name.partition("/")[0] for name in record.arrays} for key, record in records.items() if record}
