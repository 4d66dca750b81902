from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melody.artifacts.files import canonical
from melody.errors import MelodyError
from melody.reproduce.jobs.job import Job, JobResult
from melody.reproduce.store import ARRAYS, MANIFEST, VALUES, Store

KILLED_WRITERS = """
import os, random, signal, sys, time
import numpy as np
from melody.reproduce.store import Store
from dataclasses import dataclass
from melody.reproduce.jobs.job import JobResult, Job

@dataclass(frozen=True, kw_only=True)
class Numbered(Job):
    kind = "test"
    n: int

    def compute(self, context):
        return JobResult({"n": self.n})

def write_for_ever():
    store = Store(sys.argv[1])
    for n in range(10_000):
        unit = Numbered(n=n)
        with store.claim(unit) as mine:
            assert mine
            if store.read(unit) is None:
                store.write(unit, JobResult({"n": n}, {"a": np.full(20_000, n, np.float32)}, {"clip": bytes(50_000)}))

rng = random.Random(0)
for _ in range(12):
    child = os.fork()
    if child == 0:
        write_for_ever()
    time.sleep(rng.uniform(0.02, 0.2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@dataclass(frozen=True, kw_only=True)
class Given(Job):
    kind: ClassVar[str] = "test"
    given: Any

    def compute(self, context: Any) -> JobResult:
        return JobResult({})


class Another(Given):
    kind: ClassVar[str] = "another"


def _unit(n: int = 0) -> Job:
    return Given(given=n)


def _outcome() -> JobResult:
    return JobResult({"value": 0.1, "none": None}, {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"00": b"flac"})


def test_outcome_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read(_unit()) is None
    store.write(_unit(), _outcome())
    found = Store(tmp_path).read(_unit())
    assert found is not None
    assert found.values == _outcome().values
    np.testing.assert_array_equal(found.arrays["a"], _outcome().arrays["a"])
    assert found.clips == {"00": b"flac"}


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), min_size=1))
def test_key_depends_on_content_and_not_on_order(config: dict[str, Any]) -> None:
    reordered = dict(reversed(config.items()))
    assert Given(given=config).key == Given(given=reordered, label="another label").key
    assert Given(given=config).key != Another(given=config).key
    assert Given(given=config).key != Given(given={**config, "more than 4": 1}).key


def test_config_with_nan_has_no_key() -> None:
    with pytest.raises(MelodyError, match="not a JSON value"):
        _ = Given(given=float("nan")).key


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "extra", "no manifest", "empty manifest"])
def test_damaged_entry_is_reported_and_discarded(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    store.write(_unit(), _outcome())
    entry = tmp_path / "outcomes" / _unit().key
    match damage:
        case "truncated":
            os.truncate(entry / ARRAYS, 10)
        case "flipped":
            content = bytearray((entry / VALUES).read_bytes())
            content[-3] ^= 1
            (entry / VALUES).write_bytes(content)
        case "missing":
            (entry / ARRAYS).unlink()
        case "extra":
            (entry / "more").write_bytes(b"")
        case "no manifest":
            (entry / MANIFEST).unlink()
        case "empty manifest":
            (entry / MANIFEST).write_bytes(b"")
    assert store.read(_unit()) is None
    assert "damaged" in caplog.text
    assert not entry.exists()
    store.write(_unit(), _outcome())
    assert store.read(_unit()) is not None


def test_entry_that_does_not_say_what_computed_it_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from melody.reproduce import store as module

    def without_origin(value: dict[str, Any]) -> bytes:
        return canonical({name: part for name, part in value.items() if name != "origin"})

    monkeypatch.setattr(module, "canonical", without_origin)
    Store(tmp_path).write(_unit(), _outcome())
    monkeypatch.undo()
    assert Store(tmp_path).read(_unit()) is None
    Store(tmp_path).write(_unit(), _outcome())
    assert Store(tmp_path).read(_unit()) is not None


def test_killed_writers_leave_whole_entries_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WRITERS, str(tmp_path)], check=True, timeout=600)
    store = Store(tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []
    read = [(n, store.read(_unit(n))) for n in range(len(list((tmp_path / "outcomes").iterdir())))]
    assert read, "no writer got to write anything"
    for n, outcome in read:
        assert outcome is not None
        assert outcome.values == {"n": n}
        assert (outcome.arrays["a"] == n).all()
        assert len(outcome.arrays["a"]) == 20_000
    assert "damaged" not in caplog.text


def test_a_living_writers_folder_is_not_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = tmp_path / "temporary" / f"{_unit().key}.abc"
    folder.mkdir()
    with store.claim(_unit()) as mine:
        assert mine
        Store(tmp_path)
        assert folder.exists()
    Store(tmp_path)
    assert not folder.exists()


def test_claim_is_for_one_at_a_time(tmp_path: Path) -> None:
    with Store(tmp_path).claim(_unit()) as first, Store(tmp_path).claim(_unit()) as second:
        assert first
        assert not second
    with Store(tmp_path).claim(_unit()) as again:
        assert again


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MelodyError, match=r"cannot write the store .*: No space left on device"):
        store.write(_unit(), _outcome())
    assert list((tmp_path / "temporary").iterdir()) == []
    assert store.read(_unit()) is None


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MelodyError, match="cannot use the store"):
        Store(tmp_path / "file" / "store")


def test_read_only_store_serves_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).write(_unit(), _outcome())
    store = Store(tmp_path)

    def refused(*arguments: Any, **options: Any) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("melody.reproduce.store.tempfile.mkdtemp", refused)
    assert store.read(_unit()) is not None
    with pytest.raises(MelodyError, match="Read-only file system"):
        store.write(_unit(1), _outcome())
