"""A store that cannot be written ends a run; no clip, metric or job is blamed for it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

import melody
from melody.artifacts.store import Store
from melody.data.loading import load_corpus
from melody.errors import StorageError
from melody.reproduce.executor import compute_all
from melody.reproduce.jobs.job import Job, JobResult


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name in "abcdef":
        soundfile.write(folder / f"{name}.wav", 0.1 * noise.standard_normal(24_000), 24_000)
    return folder


def fill_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """A disk that takes so many files more."""
    left = [writes]

    def full(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("writes", [0, 3])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_full_disk_is_no_fault_of_a_clip(
    clips: Path, monkeypatch: pytest.MonkeyPatch, writes: int, skip_bad: bool
) -> None:
    fill_after(monkeypatch, writes)
    with pytest.raises(StorageError, match="No space left on device"):
        melody.evaluate(clips, metrics=["loudness"], store=clips.parent / "store", skip_bad=skip_bad)


def test_a_full_disk_is_no_fault_of_a_pair(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both: dict[str, Any] = {"reference": clips, "metrics": ["si-sdr"], "store": clips.parent / "store"}
    fill_after(monkeypatch, 6)  # the clips' own records are written, the pairs' are not
    with pytest.raises(StorageError, match="No space left on device"):
        melody.evaluate(clips, skip_bad=True, allow_overlap=True, **both)


@dataclass(frozen=True, kw_only=True)
class Numbered(Job):
    kind: ClassVar[str] = "test"
    n: int

    def compute(self, context: Any) -> JobResult:
        return JobResult({"n": self.n})


def test_a_full_disk_is_no_failure_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Numbered(n=number, label=f"job {number}") for number in range(3)]
    store = Store(tmp_path / "store")
    fill_after(monkeypatch, 0)
    with pytest.raises(StorageError, match="No space left on device"):
        compute_all(jobs, store, lambda job: job.compute(None))


def test_a_store_whose_lock_cannot_be_taken_is_no_fault_of_a_clip(clips: Path) -> None:
    (clips.parent / "store" / "locks" / "features.lock").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot write the store"):
        melody.evaluate(clips, metrics=["loudness"], store=clips.parent / "store", skip_bad=True)


def test_a_cache_of_sounds_that_cannot_be_written_is_no_fault_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file where a folder is to be")
    with pytest.raises(StorageError, match="cache"):
        load_corpus("embedded", split="test")[0].audio.waveform(24_000)
