"""A store that cannot be written ends a run; no clip, metric or unit is blamed for it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import melody
from melody.errors import StorageError
from melody.reproduce.executor import compute_all
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.store import Store


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


def test_a_full_disk_is_no_failure_of_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = [Job("count", {"number": number}, f"unit {number}") for number in range(3)]
    store = Store(tmp_path / "store")
    fill_after(monkeypatch, 0)
    with pytest.raises(StorageError, match="No space left on device"):
        compute_all(units, store, lambda unit: JobResult({"number": unit.config["number"]}))
