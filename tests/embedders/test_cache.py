"""The cache of embeddings: what makes an entry another, what damage does, two writers, and its bound."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from melody.data.audio import read_audio
from melody.embedders.cache import EmbeddingCache, parse_bytes
from melody.errors import MelodyError
from melody.protocols import AudioEmbedder, AudioTagger


class Counting(AudioEmbedder):
    """Two numbers a window, and how often they were computed."""

    version: ClassVar[str] = "1"
    sample_rate, dimension, window_s, hop_s = 8_000, 2, 1.0, 1.0

    def __init__(self, scale: float = 1.0, weights_hash: str | None = None, protocol: str = "") -> None:
        self.scale, self.weights_hash, self.protocol = scale, weights_hash, protocol
        self.calls = 0

    def embed(self, waveform: Tensor) -> Tensor:
        self.calls += 1
        return self.scale * torch.stack([waveform.mean(), waveform.square().mean()])[None]


class Tagging(AudioTagger):
    """One label."""

    version: ClassVar[str] = "1"
    sample_rate, labels, window_s, hop_s = 8_000, ("one",), 1.0, 1.0

    def tag(self, waveform: Tensor) -> Tensor:
        return waveform.mean()[None, None]


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings")


CLIP = torch.linspace(-1, 1, 8_001)


def test_known_content_is_not_computed_again(cache: EmbeddingCache, tmp_path: Path) -> None:
    embedder = Counting()
    first = cache.embed("counting", embedder, CLIP)
    again = EmbeddingCache(tmp_path / "embeddings").embed("counting", embedder, CLIP.clone())
    assert torch.equal(first, again)
    assert torch.equal(first, Counting().embed(CLIP))
    assert again.dtype == torch.float32
    assert embedder.calls == 1
    assert cache.tag("counting", Tagging(), CLIP).shape == (1, 1)  # another kind under the same name


@pytest.mark.parametrize(
    "other",
    [{"weights_hash": "b"}, {"protocol": "google-fad"}],
)
def test_other_weights_and_protocols_are_other_entries(cache: EmbeddingCache, other: dict[str, Any]) -> None:
    cache.embed("counting", Counting(1.0, "a"), CLIP)
    changed = Counting(2.0, **{"weights_hash": "a", **other})
    assert torch.equal(cache.embed("counting", changed, CLIP), changed.embed(CLIP))


def test_another_version_name_or_window_is_another_entry(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Counting()
    cache.embed("counting", embedder, CLIP)
    cache.embed("other", embedder, CLIP)
    monkeypatch.setattr(Counting, "version", "2")
    cache.embed("counting", embedder, CLIP)
    monkeypatch.setattr(Counting, "hop_s", 0.5)
    cache.embed("counting", embedder, CLIP)
    monkeypatch.setattr("melody.embedders.cache.source_hash", lambda module: "other code")
    cache.embed("counting", embedder, CLIP)
    monkeypatch.setattr("melody.embedders.cache._libraries", lambda: {"transformers": "0"})
    cache.embed("counting", embedder, CLIP)
    assert embedder.calls == 6
    assert cache.usage().by_name["counting"][0] == 5


def write(path: Path, level: float, kind: str) -> None:
    t = np.arange(8_000) / 8_000
    soundfile.write(path, level * np.sin(2 * np.pi * 440 * t), 8_000, format=kind)


def test_files_of_one_name_never_share_numbers(cache: EmbeddingCache, tmp_path: Path) -> None:
    embedder = Counting()

    def embedded(path: Path) -> Tensor:
        return cache.embed("counting", embedder, read_audio(path, 8_000))

    write(tmp_path / "a.wav", 0.5, "WAV")
    write(tmp_path / "a.mp3", 0.1, "MP3")
    wav, mp3 = embedded(tmp_path / "a.wav"), embedded(tmp_path / "a.mp3")
    assert not torch.allclose(wav, mp3, atol=1e-3)
    before = os.stat(tmp_path / "a.wav")
    write(tmp_path / "a.wav", 0.9, "WAV")  # new audio under an old name, size and time
    os.utime(tmp_path / "a.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (tmp_path / "a.wav").stat().st_size == before.st_size
    assert torch.equal(embedded(tmp_path / "a.wav"), Counting().embed(read_audio(tmp_path / "a.wav", 8_000)))
    assert embedder.calls == 3
    (tmp_path / "a.wav").rename(tmp_path / "b with ünicode.wav")
    embedded(tmp_path / "b with ünicode.wav")
    assert embedder.calls == 3


def test_large_and_small_numbers_come_back_bit_by_bit(cache: EmbeddingCache) -> None:
    """Half precision ends at 65,504, and rounds off what is below 6e-8."""
    huge = Counting(1e30)
    assert torch.equal(cache.embed("huge", huge, CLIP), huge.embed(CLIP))
    again = cache.embed("huge", huge, CLIP)
    assert torch.isfinite(again).all()
    assert torch.equal(again, huge.embed(CLIP))
    tiny = Counting(1e-30)
    cache.embed("tiny", tiny, CLIP)
    assert torch.equal(cache.embed("tiny", tiny, CLIP), tiny.embed(CLIP))


def test_what_is_not_finite_or_of_another_shape_is_refused_and_not_kept(cache: EmbeddingCache) -> None:
    class Flat(Counting):
        def embed(self, waveform: Tensor) -> Tensor:
            return super().embed(waveform)[0]

    with pytest.raises(MelodyError, match=r"flat gave shape \(2,\); expected \(windows, 2\)"):
        cache.embed("flat", Flat(), CLIP)
    with pytest.raises(MelodyError, match="nan: what it gave: 2 of 2 values are NaN"):
        cache.embed("nan", Counting(float("nan")), CLIP)
    assert cache.usage().entries == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_entry_is_computed_again(
    cache: EmbeddingCache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    embedder = Counting()
    first = cache.embed("counting", embedder, CLIP)
    path = next(cache.folder.glob("*.safetensors"))
    content = path.read_bytes()
    flipped = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    path.write_bytes({"cut": content[:-3], "flip": flipped, "empty": b"", "other": b"no such file"}[damage])
    assert torch.equal(cache.embed("counting", embedder, CLIP), first)
    assert embedder.calls == 2
    assert "is damaged" in caplog.text
    assert torch.equal(cache.embed("counting", embedder, CLIP), first)
    assert embedder.calls == 2


def test_the_least_recently_used_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    clips = [torch.full((10,), index / 100) for index in range(60)]
    probe = EmbeddingCache(tmp_path / "probe")
    probe.embed("counting", Counting(), clips[0])
    size = probe.usage().bytes
    cache = EmbeddingCache(tmp_path / "embeddings", limit_bytes=32 * size)
    for index, clip in enumerate(clips):
        cache.embed("counting", Counting(), clip)
        _age(cache.folder)
        if index % 5 == 0:
            cache.embed("counting", Counting(), clips[0])  # used again and again
            _age(cache.folder)
        assert cache.usage().bytes <= 32 * size
    assert cache.usage().entries > 20
    for clip, calls in ((clips[0], 0), (clips[1], 1), (clips[-1], 0)):
        embedder = Counting()
        cache.embed("counting", embedder, clip)
        assert embedder.calls == calls


def _age(folder: Path) -> None:
    """Put a second between one use and the next without waiting for it."""
    for path in folder.glob("*.safetensors"):
        stat = path.stat()
        os.utime(path, (stat.st_atime, stat.st_mtime - 1))


def test_a_limit_is_kept_and_what_dead_writers_left_goes(cache: EmbeddingCache) -> None:
    for index in range(4):
        cache.embed("counting", Counting(), torch.full((10,), index / 10))
    old, young = cache.folder / ".x.safetensors.dead", cache.folder / ".y.safetensors.alive"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7_200))
    cache.set_limit(0)
    assert cache.usage().entries == 0
    assert not old.exists()
    assert young.exists()
    again = EmbeddingCache(cache.folder)
    assert again.limit_bytes == 0
    assert torch.equal(again.embed("counting", Counting(), CLIP), Counting().embed(CLIP))  # works, and keeps nothing
    assert again.usage().entries == 0


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise MelodyError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("melody.embedders.cache.write_bytes", full)
    for _ in range(2):
        assert torch.equal(cache.embed("counting", Counting(), CLIP), Counting().embed(CLIP))
    assert caplog.text.count("No space left on device; embeddings are computed and not kept") == 1


def _writer(folder: str, limit: int, offset: int) -> None:
    cache = EmbeddingCache(folder, limit_bytes=limit)
    for index in range(40):
        clip = torch.full((10,), ((index + offset) % 40) / 100)
        values = cache.embed("counting", Counting(), clip)
        assert torch.equal(values, Counting().embed(clip))


def test_two_writers_at_once_leave_whole_entries_within_the_limit(cache: EmbeddingCache) -> None:
    context = multiprocessing.get_context("fork")
    cache.embed("counting", Counting(), CLIP)
    limit = 24 * cache.usage().bytes
    writers = [context.Process(target=_writer, args=(str(cache.folder), limit, offset)) for offset in (0, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    usage = cache.usage()
    assert set(usage.by_name) == {"counting"}
    assert 0 < usage.bytes <= limit
    assert not [path for path in cache.folder.iterdir() if path.name.startswith(".")]


def test_sizes_are_read_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("0", "10", "1k", "500MB", "2 GiB")] == [
        0, 10, 1024, 500 * 1024**2, 2 * 1024**3,
    ]  # fmt: skip
    with pytest.raises(MelodyError, match=r"'many' is no size; expected a number with a unit"):
        parse_bytes("many")
