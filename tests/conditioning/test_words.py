"""Words that a system has never met are told, and the music is made all the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from melody.conditioning.words import known_words, unmet_words, words_of
from melody.config import Preset, load_preset
from melody.data.embedded import embedded_clip, further_captions
from melody.errors import MelodyWarning
from melody.pipeline import MelodyPipeline
from melody.pipeline.prompts import read_prompt
from melody.pipeline.system import load_part, shipped_weights

EMBEDDER = SimpleNamespace(sample_rate=24_000, known_words=frozenset({"a", "slow", "waltz", "don't"}))


@pytest.mark.parametrize(
    ("text", "unmet"),
    [
        ("A SLOW waltz", []),
        ("a slow-waltz, slow; waltz!", []),
        ("a slow techno waltz, techno and dub", ["techno", "and", "dub"]),
        ("don't waltz at 120 BPM", ["at", "120", "bpm"]),
        ("ein langsamer Walzer für Flöte", ["ein", "langsamer", "walzer", "für", "flöte"]),
        ("ｗａｌｔｚ", []),
        ("a …", []),
    ],
)
def test_words_that_training_has_not_met(text: str, unmet: list[str]) -> None:
    assert unmet_words([text], EMBEDDER) == unmet
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_prompt(text, None, EMBEDDER).texts == (text,)  # type: ignore[arg-type]
    assert len(caught) == bool(unmet)
    for one in caught:
        assert one.category is MelodyWarning
        assert f"never met in training: {', '.join(unmet)};" in str(one.message)


def test_a_long_list_is_cut() -> None:
    with pytest.warns(MelodyWarning, match=r"words of the prompts that .* x0, .* x11 and 8 more;"):
        read_prompt(["a waltz", " ".join(f"x{i}" for i in range(20))], None, EMBEDDER)  # type: ignore[arg-type]


def test_an_embedder_whose_captions_nobody_knows_says_nothing() -> None:
    assert unmet_words(["anything"], SimpleNamespace()) == []
    assert known_words(None) is known_words({"joint_embedder": {"steps": 3}}) is None


def test_the_demo_knows_the_words_of_its_captions_and_no_others() -> None:
    demo = load_preset("demo")
    path = shipped_weights(demo) / "joint_embedder.safetensors"
    embedder = load_part(demo, "joint_embedder", path)
    clips = [embedded_clip(split, index) for split in ("train", "test") for index in range(100)]
    assert (
        unmet_words([text for clip in clips for text in (clip.text, *clip.tags, *further_captions(clip))], embedder)
        == []
    )
    assert unmet_words(["a dreamy techno track, with war drums of joy"], embedder) == [
        "dreamy",
        "techno",
        "war",
        "of",
        "joy",
    ]
    assert words_of(embedder.known_words) == list(embedder.known_words)  # type: ignore[arg-type]


def test_generate_tells_them_on_stderr_and_goes_on(
    tiny_preset: Preset, tiny_path: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(tiny_weights, weights)
    (weights / "card.json").write_text(json.dumps({"joint_embedder": {"words": ["a", "slow", "waltz"], "sha256": ""}}))
    pipeline = MelodyPipeline.from_preset(tiny_preset, weights=weights)
    with pytest.warns(MelodyWarning, match="never met in training: techno;"):
        pipeline("a slow techno waltz", num_steps=1)
    command = [sys.executable, "-m", "melody", "generate", "--preset", str(tiny_path), "--weights", str(weights)]
    options = ["--steps", "1", "--duration", "0.5", "-o", str(tmp_path / "a.wav")]
    said = subprocess.run([*command, "a slow [techno] waltz", *options], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stderr.splitlines() == [
        "melody: warning: words of the prompt that this system has never met in training: techno; the music cannot be "
        "expected to follow them"
    ]
    assert "warning" not in said.stdout
    assert (tmp_path / "a.wav").is_file()
    known = subprocess.run([*command, "a slow waltz", *options], capture_output=True, text=True, check=False)
    assert (known.returncode, known.stderr) == (0, "")
