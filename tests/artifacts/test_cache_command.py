"""``melody cache``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melody.artifacts.store import Record, Store
from melody.cli import main
from melody.cli.cache import parse_bytes
from melody.errors import MelodyError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["cache", *arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MELODY_CACHE", str(tmp_path))
    store = Store()
    for kind, count in (("results", 1), ("features", 2)):
        for n in range(count):
            store.write(kind, f"{n:064}", Record({"values": np.zeros(100)}))
    return store


def test_shows_prunes_clears_and_limits(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    shown = capsys.readouterr().out
    assert "results" in shown
    assert "features" in shown
    assert f"{store.folder}: 3 entries" in shown
    assert "of at most 20.0 GiB" in shown
    assert run("--prune", "features") == 0
    assert "removed 2 entries of features" in capsys.readouterr().out
    assert set(store.usage()) == {"results"}
    assert run("--limit", "1MB") == 0
    assert "of at most 1.0 MiB" in capsys.readouterr().out
    assert Store().limit_bytes == 1024**2
    assert run("--clear") == 0
    assert "removed 1 entries" in capsys.readouterr().out
    assert store.usage() == {}


def test_another_folder_is_another_store(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--store", str(tmp_path / "other"), "--clear") == 0
    assert "removed 0 entries" in capsys.readouterr().out
    assert set(store.usage()) == {"results", "features"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--clear", "--limit", "lots"), "'lots' is no size; expected a number with a unit"),
        (("--clear", "--prune", "feature"), "the store has no kind 'feature'; did you mean 'features'?"),
    ],
)
def test_bad_input_changes_nothing(
    store: Store, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert set(store.usage()) == {"results", "features"}


def test_sizes_are_read_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("0", "10", "1k", "500MB", "2 GiB")] == [
        0, 10, 1024, 500 * 1024**2, 2 * 1024**3,
    ]  # fmt: skip
    with pytest.raises(MelodyError, match=r"'many' is no size"):
        parse_bytes("many")
