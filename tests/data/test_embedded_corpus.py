from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from melody.data import embedded
from melody.data.attributes import Attributes
from melody.data.corpus import Corpus
from melody.data.embedded import EMBEDDED_SPLITS, clip_score, distinct_prompts, embedded_clip, embedded_corpus
from melody.data.loading import load_corpus
from melody.data.rendering import render
from melody.errors import MelodyError

RENDER_SOME = """
import sys
from pathlib import Path
from melody.data import embedded
from melody.data.rendering import synthesizer
embedded.CHUNK_CLIPS = 3
embedded.corpus_synthesizer = lambda: synthesizer(Path(sys.argv[1]))
print(embedded.embedded_corpus("test", 3).content_hash())
"""


@pytest.fixture(scope="module")
def corpus(cache: Path, synth: object) -> Corpus:
    return embedded_corpus("test", 36, progress=lambda done, total: None)


def test_clips_are_ten_seconds_and_neither_silent_nor_clipped(corpus: Corpus) -> None:
    waveforms = corpus.waveforms()
    assert waveforms.shape == (36, 240_000)
    assert waveforms.dtype == torch.float32
    assert corpus.sample_rate == 24_000
    assert all(clip.duration_s == 10 for clip in corpus)
    assert waveforms.abs().amax(dim=1).max() <= 0.9 + 2**-15
    assert waveforms.abs().amax(dim=1).min() > 0.2
    rms = waveforms.square().mean(dim=1).sqrt()
    assert rms.max() <= 0.1 + 1e-3
    assert rms.min() > 0.05
    per_second = waveforms.view(36, 10, -1).square().mean(dim=2).sqrt()
    assert per_second.min() > 0.003
    assert waveforms.mean(dim=1).abs().max() < 1e-3
    assert torch.equal(corpus.waveforms([5, 0]), waveforms[[5, 0]])


def test_a_clip_does_not_depend_on_the_size_of_the_corpus(corpus: Corpus) -> None:
    alone = embedded_clip("test", 7)
    assert alone == corpus[7]
    assert torch.equal(alone.waveform(), corpus[7].waveform())
    assert corpus[:5].content_hash() == embedded_corpus("test", 5).content_hash()
    assert embedded_corpus("test", 5).content_hash() != embedded_corpus("test", 5, seed=1).content_hash()
    assert alone.waveform(16_000).shape == (160_000,)


def test_pieces_of_another_length_have_the_same_facts_and_captions(corpus: Corpus) -> None:
    longer = load_corpus("embedded:12", num_clips=3)
    assert [clip.duration_s for clip in longer] == [12.0] * 3
    assert longer.waveforms().shape == (3, 288_000)
    assert [c.text for c in longer] == [c.text for c in corpus[:3]]
    assert [c.attributes for c in longer] == [c.attributes for c in corpus[:3]]
    assert not {c.identifier for c in longer} & {c.identifier for c in corpus}
    assert longer.name == "embedded:12/test"


def test_pieces_of_several_lengths_share_what_was_rendered() -> None:
    both = load_corpus("embedded:10,30", split="train", num_clips=100)
    assert [both[i].duration_s for i in (0, 31, 32, 63, 64, 96)] == [10, 10, 30, 30, 10, 30]
    assert both[5] == embedded_clip("train", 5)
    assert both[40] == embedded_clip("train", 40, duration_s=30.0)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("embedded:", "expected lengths in seconds, as in 'embedded:10,30'"),
        ("embedded:ten", "expected lengths in seconds"),
        ("embedded:10,", "expected lengths in seconds"),
        ("embedded:5", "length of the embedded corpus's pieces is 5 s, expected 10 to 300"),
        ("embedded:nan", "pieces is nan s, expected 10 to 300"),
        ("embedded:10,1e9", r"pieces is 1e\+09 s, expected 10 to 300"),
    ],
)
def test_lengths_that_are_none(where: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        load_corpus(where)


@pytest.mark.parametrize("index", range(40, 76))
def test_tempo_is_heard_where_there_are_drums(index: int, synth: object) -> None:
    facts = embedded.clip_attributes("test", index)
    if not facts.drums:
        assert clip_score("test", index).part("drums") is None
        return
    sound = render(clip_score("test", index), synth)
    frame = 240  # 10 ms
    spectra = np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(sound, 1024)[::frame] * np.hanning(1024)))
    onsets = np.maximum(np.diff(np.log1p(100 * spectra), axis=0), 0).sum(axis=1)
    onsets -= onsets.mean()
    correlation = np.correlate(onsets, onsets, "full")[len(onsets) - 1 :]
    bar = 60 / facts.bpm * facts.beats_per_bar * 100  # in frames
    nearby = range(round(0.9 * bar), round(1.1 * bar) + 1)
    assert max(nearby, key=lambda lag: correlation[lag]) == pytest.approx(bar, abs=2)
    assert correlation[round(bar)] > 0.2 * correlation[0]


def test_splits_share_nothing() -> None:
    clips = {split: list(embedded_corpus(split, 150)) for split in EMBEDDED_SPLITS}
    scores = {split: {clip_score(split, i).content_hash() for i in range(150)} for split in EMBEDDED_SPLITS}
    for a, b in itertools.combinations(EMBEDDED_SPLITS, 2):
        assert not scores[a] & scores[b]
        assert not {c.identifier for c in clips[a]} & {c.identifier for c in clips[b]}
    assert sum(len(found) for found in scores.values()) == 600


def test_two_writers_get_the_same_bits(cache: Path, synth: object, tmp_path: Path) -> None:
    """Two processes on one empty cache, their memory filled with different bytes: symusic must read only its own."""
    soundfont = cache / "soundfont" / embedded.sound_version() / "soundfont.sf2"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RENDER_SOME, str(soundfont)],
            env=os.environ | {"MELODY_CACHE": str(tmp_path), "MALLOC_PERTURB_": perturb},
            stdout=subprocess.PIPE,
            text=True,
        )
        for perturb in ("85", "170")
    ]
    hashes = [process.communicate(timeout=600)[0].strip() for process in processes]
    assert hashes == [embedded_corpus("test", 3).content_hash()] * 2
    assert len(list(tmp_path.glob("store/corpus/*/*"))) == 1


def test_interruption_leaves_nothing_half_written(cache: Path, synth: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    folder = cache / "store" / "corpus"
    before = {path.name for path in folder.rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "render", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embedded_corpus("validation", 1, seed=3)[0].waveform()
    assert {path.name for path in folder.rglob("*.*")} == before


def test_damaged_cache_is_rendered_again(corpus: Corpus, cache: Path) -> None:
    expected = corpus[0].waveform()
    (path,) = cache.rglob(f"{embedded.Chunk('test', 0).key}.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    embedded._chunk.cache_clear()
    assert torch.equal(corpus[0].waveform(), expected)


def test_full_cache_needs_no_write(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded._chunk.cache_clear()

    def refused(path: Path, chunks: object) -> None:
        raise AssertionError(f"wrote {path}")

    monkeypatch.setattr("melody.artifacts.store.replace_file", refused)
    assert corpus[0].waveform().shape == (240_000,)


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path / "file"))
    with pytest.raises(MelodyError, match="MELODY_CACHE moves the cache"):
        embedded_corpus("test", 1)[0].waveform()


def test_read_only_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("MELODY_CACHE", str(tmp_path))
    monkeypatch.setattr("melody.artifacts.store.FileLock", read_only)
    with pytest.raises(MelodyError, match=r"cannot write the store .*: Permission denied; MELODY_CACHE"):
        embedded_corpus("test", 1)[0].waveform()


def test_distinct_prompts() -> None:
    clips = distinct_prompts(64)
    combinations = {Attributes.from_mapping(clip.attributes).combination for clip in clips}
    assert len(combinations) == len({clip.text for clip in clips}) == 64
    assert [c.identifier for c in clips] == [c.identifier for c in distinct_prompts(64)]
    assert [c.identifier for c in clips[:10]] == [c.identifier for c in distinct_prompts(10)]
    assert [c.identifier for c in clips] != [c.identifier for c in distinct_prompts(64, seed=1)]
    with pytest.raises(MelodyError, match="1000 distinct prompts were asked for"):
        distinct_prompts(1000)


def test_bad_requests() -> None:
    with pytest.raises(MelodyError, match="unknown split 'tran'; did you mean 'train'"):
        load_corpus("embedded", split="tran")
    with pytest.raises(MelodyError, match="number of clips is 0, expected at least 1"):
        load_corpus("embedded", num_clips=0)
    with pytest.raises(MelodyError, match="seed of the embedded corpus is -1"):
        embedded_corpus("test", 1, seed=-1)
    with pytest.raises(MelodyError, match="no clip 'test/00099'; did you mean"):
        embedded_corpus("test", 50).clip("test/00099")


def test_default_sizes() -> None:
    assert [len(load_corpus("embedded", split=split)) for split in EMBEDDED_SPLITS] == [6144, 128, 256, 256]


def test_progress_counts_clips(corpus: Corpus) -> None:
    seen: list[tuple[int, int]] = []
    embedded_corpus("test", 36, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(32, 36), (36, 36)]


def test_text_decides_the_hash(corpus: Corpus) -> None:
    digest = corpus.content_hash()
    assert digest == embedded_corpus("test", 36).content_hash()
    assert len(digest) == len(hashlib.sha256().hexdigest())
    assert corpus[1:].content_hash() != digest
