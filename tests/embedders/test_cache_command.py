"""``melody cache``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from melody.cli import main
from melody.embedders.cache import EmbeddingCache
from melody.registry import audio_embedders


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["cache", *arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path))
    cache, embedder = EmbeddingCache(), audio_embedders.create("mel-stats")
    for level in (0.1, 0.2):
        cache.embed("mel-stats", embedder, torch.full((24_000,), level))
    return cache.folder


def test_shows_clears_and_limits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    shown = capsys.readouterr().out
    assert "mel-stats" in shown
    assert "2 entries" in shown
    assert "4.0 GiB" in shown
    assert run("--limit", "1MB") == 0
    assert "of at most 1.0 MiB" in capsys.readouterr().out
    assert EmbeddingCache().limit_bytes == 1024**2
    assert run("--clear") == 0
    assert "removed 2 entries" in capsys.readouterr().out
    assert EmbeddingCache().usage().entries == 0


def test_a_size_that_is_none_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--clear", "--limit", "lots") == 2
    assert "'lots' is no size" in capsys.readouterr().err
    assert EmbeddingCache().usage().entries == 2
