"""The store: entries are whole or not there, whoever is killed, damaged ones go, claims hold, and the limit too."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melody.artifacts import store as module
from melody.artifacts.store import Record, Store
from melody.errors import MelodyError, StorageError

KILLED_WRITERS = """
import os, random, signal, sys, time
import numpy as np
from melody.artifacts.store import Record, Store

def write_for_ever():
    store = Store(sys.argv[1])
    for n in range(10_000):
        with store.claim("results", f"{n:08}") as mine:
            assert mine
            if store.read("results", f"{n:08}") is None:
                store.write("results", f"{n:08}", Record({"a": np.full(20_000, n, np.float32)}, {"n": n}))

rng = random.Random(0)
for _ in range(12):
    child = os.fork()
    if child == 0:
        write_for_ever()
    time.sleep(rng.uniform(0.02, 0.2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
KEY = "ab" * 32


def _record(n: int = 0) -> Record:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3) + n,
        "scalar": np.array(n),
        "file": np.zeros(9, np.uint8),
    }
    return Record(arrays, {"value": 0.1, "none": None})


def _same(one: Record | None, other: Record) -> bool:
    assert one is not None
    assert one.facts == other.facts
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
        assert (array.dtype, array.shape) == (other.arrays[name].dtype, other.arrays[name].shape)
    return True


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read("results", KEY) is None
    store.write("results", KEY, _record())
    assert _same(Store(tmp_path).read("results", KEY), _record())
    assert store.read("features", KEY) is None, "another kind under the same key"
    store.write("results", KEY, Record(facts={"alone": 1}))
    assert store.read("results", KEY) == Record(facts={"alone": 1})


def test_large_and_small_numbers_come_back_bit_by_bit(tmp_path: Path) -> None:
    """Half precision ends at 65,504, and rounds off what is below 6e-8."""
    values = np.array([1e30, 1e-30, -0.0, np.pi], np.float32)
    Store(tmp_path).write("features", KEY, Record({"values": values[::-1]}))
    found = Store(tmp_path).read("features", KEY)
    assert found is not None
    assert found.arrays["values"].tobytes() == values[::-1].tobytes()


@pytest.mark.parametrize("damage", ["cut", "flip", "facts", "empty", "other"])
def test_a_damaged_entry_is_reported_and_discarded(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.write("results", KEY, _record())
    (path,) = tmp_path.rglob("*.safetensors")
    content = path.read_bytes()
    damaged = {
        "cut": content[:-3],
        "flip": content[:-2] + bytes([content[-2] ^ 1]) + content[-1:],
        "facts": content.replace(b"0.1", b"0.2"),
        "empty": b"",
        "other": b"no such file",
    }
    path.write_bytes(damaged[damage])
    assert store.read("results", KEY) is None
    assert "is damaged" in caplog.text
    assert not path.exists()
    store.write("results", KEY, _record())
    assert _same(store.read("results", KEY), _record())


def test_killed_writers_leave_whole_entries_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WRITERS, str(tmp_path)], check=True, timeout=600)
    store = Store(tmp_path)
    count = store.usage()["results"][0]
    read = [(n, store.read("results", f"{n:08}")) for n in range(count)]
    assert read, "no writer got to write anything"
    for n, record in read:
        assert record is not None
        assert record.facts == {"n": n}
        assert (record.arrays["a"] == n).all()
        assert len(record.arrays["a"]) == 20_000
    assert "damaged" not in caplog.text


def test_what_dead_writers_left_goes_and_what_live_ones_write_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("results", KEY, _record())
    folder = next(tmp_path.rglob("*.safetensors")).parent
    old, young = folder / ".x.safetensors.dead", folder / ".y.safetensors.alive"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7_200))
    assert store.usage()["results"][0] == 1
    assert not old.exists()
    assert young.exists()


def test_a_claim_is_for_one_at_a_time(tmp_path: Path) -> None:
    with Store(tmp_path).claim("results", KEY) as first, Store(tmp_path).claim("results", KEY) as second:
        assert first
        assert not second
        with Store(tmp_path).claim("features", KEY) as other:
            assert other
    with Store(tmp_path).claim("results", KEY) as again:
        assert again


def test_what_two_add_to_one_entry_is_all_there(tmp_path: Path) -> None:
    for name in ("one", "other"):
        Store(tmp_path).merge("features", KEY, Record({name: np.zeros(1)}, {name: 1}))
    found = Store(tmp_path).read("features", KEY)
    assert found is not None
    assert found.arrays.keys() == found.facts.keys() == {"one", "other"}


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"^cannot write the store .*: No space left on device$"):
        store.write("results", KEY, _record())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert store.read("results", KEY) is None


def test_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use the store"):
        Store(tmp_path / "file" / "store")
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot use the store .*; MELODY_CACHE moves it"):
        Store()


def test_read_only_store_serves_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).write("results", KEY, _record())
    store = Store(tmp_path)

    def refused(*arguments: Any, **options: Any) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refused)
    monkeypatch.setattr(os, "utime", refused)
    assert store.read("results", KEY) is not None
    with pytest.raises(MelodyError, match="Read-only file system"):
        store.write("results", "cd" * 32, _record())


def _age(folder: Path, seconds: float) -> None:
    """As if so much time had passed, without waiting for it."""
    for path in folder.rglob("*.safetensors"):
        stat = path.stat()
        os.utime(path, (stat.st_atime, stat.st_mtime - seconds))


def test_the_least_recently_used_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    Store(tmp_path / "probe").write("features", KEY, _record())
    ((_, size),) = Store(tmp_path / "probe").usage().values()
    store = Store(tmp_path / "store", limit_bytes=32 * size)
    for n in range(60):
        _age(store.folder, 86_400)
        store.write("features" if n % 2 else "results", f"{n:064}", _record(n))
        if n % 5 == 0:
            assert store.read("results", f"{0:064}") is not None, "used again and again"
        assert sum(used for _, used in store.usage().values()) <= 32 * size
    assert sum(entries for entries, _ in store.usage().values()) > 20
    assert store.read("features", f"{1:064}") is None
    assert _same(store.read("features", f"{59:064}"), _record(59))


def test_what_this_run_uses_is_never_evicted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for n in range(4):
        store.write("features", f"{n:064}", _record(n))
    _age(tmp_path, 86_400)
    assert store.read("features", f"{1:064}") is not None
    store.write("features", f"{4:064}", _record(4))
    store.set_limit(0)
    assert [n for n in range(5) if store.read("features", f"{n:064}")] == [1, 4]
    assert Store(tmp_path).limit_bytes == 0
    _age(tmp_path, 86_400)  # the next run
    store.evict()
    assert store.usage() == {}


def _writer(folder: str, limit: int, offset: int) -> None:
    module.BEGAN = float("inf")  # as if each write were a run of its own
    store = Store(folder, limit_bytes=limit)
    for index in range(40):
        n = (index + offset) % 40
        if (found := store.read("features", f"{n:064}")) is not None:
            assert _same(found, _record(n))
        store.write("features", f"{n:064}", _record(n))


def test_two_writers_at_once_leave_whole_entries_within_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    Store(tmp_path).write("features", KEY, _record())
    limit = 24 * Store(tmp_path).usage()["features"][1]
    writers = [context.Process(target=_writer, args=(str(tmp_path), limit, offset)) for offset in (0, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    usage = Store(tmp_path).usage()
    assert set(usage) == {"features"}
    assert 0 < usage["features"][1] <= limit
    assert not list(tmp_path.rglob(".*"))


def test_a_limit_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("lots")
    with pytest.raises(MelodyError, match="cannot read the store's limit in .*; set it anew with melody cache --limit"):
        Store(tmp_path)


def test_an_entry_larger_than_memory_is_written_in_pieces_and_once(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save

    whole, made = save({"features": np.arange(100, dtype=np.float32)}), []

    def chunks() -> list[bytes]:
        made.append(1)
        return [whole[:50], whole[50:]]

    for _ in range(2):
        path = Store(tmp_path).mapped("training", KEY, chunks)
        assert (load_file(path)["features"] == np.arange(100)).all()
    assert len(made) == 1
    path.write_bytes(whole[:-4])
    assert len(load_file(Store(tmp_path).mapped("training", KEY, chunks))["features"]) == 100
    assert len(made) == 2
