"""The weights of the demo cascade that ship with the package."""

from __future__ import annotations

import json

from melody.artifacts.files import file_hash
from melody.baselines.noise2music import PARTS, Noise2MusicSystem
from melody.config import load_preset
from melody.paths import PACKAGE
from melody.pipeline import shipped_weights

FOLDER = PACKAGE / "presets" / "weights" / "noise2music" / "demo"


def test_the_card_speaks_of_the_weights_that_are_there() -> None:
    card = json.loads((FOLDER / "card.json").read_text())
    assert set(card) == {*PARTS} == {path.stem for path in FOLDER.glob("*.safetensors")}
    for part, entry in card.items():
        assert file_hash(FOLDER / f"{part}.safetensors") == entry["sha256"]
    ours = json.loads((shipped_weights(load_preset("demo")) / "card.json").read_text())
    hashes = {entry["data"]["train_hash"] for entry in (*card.values(), *ours.values())}
    assert len(hashes) == 1  # the same corpus as our own system's
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3.2e6


def test_the_demo_makes_sound_of_the_right_length_and_level() -> None:
    made = Noise2MusicSystem("demo").generate(
        ["a slow piano piece in a minor key"], duration_s=3.0, seeds=[0], num_steps=[6, 4, 2]
    )
    assert made.waveform.shape == (1, 1, 72_000)
    assert 0.01 < float(made.waveform.square().mean().sqrt()) < 0.5
