"""The toolkit's own embedder and tagger, with the weights that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from melody.config import load_preset
from melody.data.embedded import embedded_corpus
from melody.embedders.melody_joint import MelodyJoint, MelodyJointTags
from melody.errors import MelodyError
from melody.pipeline.system import load_part, shipped_weights
from melody.registry import audio_embedders, audio_taggers

CLIPS = 24
"""Of the test split, as many as the instruments need to be there several times each."""


@pytest.fixture(scope="module")
def embedder() -> MelodyJoint:
    made = audio_embedders.create("melody-joint")
    assert isinstance(made, MelodyJoint)
    return made


def test_windows_are_the_joint_embedders_own(embedder: MelodyJoint) -> None:
    path = shipped_weights(load_preset("demo")) / "joint_embedder.safetensors"
    joint = load_part(load_preset("demo"), "joint_embedder", path).eval()
    clip = 0.1 * torch.randn(12 * embedder.sample_rate, generator=torch.Generator().manual_seed(0))
    vectors = embedder.embed(clip)
    window = joint.window_length
    assert vectors.shape == (2, embedder.dimension)
    with torch.inference_mode():
        for row, part in zip(vectors, (clip[:window], clip[-window:]), strict=True):
            torch.testing.assert_close(row, joint.embed_audio(part[None, None])[0], atol=1e-5, rtol=1e-4)
    facts = embedder.identity()
    assert (facts["window_s"], facts["hop_s"]) == (window / embedder.sample_rate,) * 2
    assert len(facts["weights_hash"]) == 64


def test_the_tagger_hears_the_corpus_instruments() -> None:
    """A demo, but no dice: held-out clips, six labels; far above one in six."""
    tagger = audio_taggers.create("melody-joint-tags")
    assert isinstance(tagger, MelodyJointTags)
    assert tagger.labels == ("piano", "acoustic guitar", "violin", "flute", "saxophone", "organ")
    right = 0
    for clip in embedded_corpus("test", CLIPS):
        logits = tagger.tag(clip.audio.waveform(tagger.sample_rate))
        assert logits.shape == (1, 6)
        right += tagger.labels[int(logits[0].argmax())] == clip.attributes["instrument"]
    assert right >= CLIPS * 0.8
    assert "demo" in audio_taggers.entry("melody-joint-tags").sentence


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"cannot read weights .*joint_embedder\.safetensors: no such file"):
        audio_embedders.create("melody-joint", {"weights": str(tmp_path)})
    with pytest.raises(MelodyError, match="there is no folder .*absent"):
        audio_taggers.create("melody-joint-tags", {"weights": str(tmp_path / "absent")})
