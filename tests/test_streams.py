"""What becomes of a command whose output cannot be said, read or written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from melody.progress import PlainProgress, clock

MELODY = [sys.executable, "-m", "melody"]


def run(*arguments: str, encoding: str = "utf-8", shell_after: str | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120"}
    if shell_after is None:
        return subprocess.run([*MELODY, *arguments], capture_output=True, check=False, env=environment)
    line = " ".join([sys.executable, "-m", "melody", *arguments, shell_after, "; echo ${PIPESTATUS[0]} >&2"])
    return subprocess.run(["bash", "-c", line], capture_output=True, check=False, env=environment)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name in "abcd":
        soundfile.write(folder / f"{name}.wav", 0.1 * noise.standard_normal(24_000), 24_000)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of a table with one cell, and thresholds that it falls past and holds."""
    cell = {
        "row": {"num_steps": 5}, "column": "fad", "label": "FAD ↓ ±", "metric": "fad", "metric_version": "1",
        "direction": "lower", "verdict": "not comparable", "reason": "≠", "measured":
        {"value": 9.0, "expected": 1, "scored": 1},
    }  # fmt: skip
    table = {"suite": "table2", "title": "Table 2: 2 × 2 ≤ 4", "source": "paper", "cells": [cell]}
    path = tmp_path / "results.json"
    header = {
        "created": "2025-01-01T00:00:00+00:00",
        "command": "",
        "seconds": 0,
        "cells_computed": 0,
        "cells_reused": 0,
    }
    path.write_text(json.dumps({**header, "tables": [table]}))
    for name, bound in (("falls", 5.0), ("holds", 10.0)):
        threshold = f'[[thresholds]]\nmetric = "fad"\nmax = {bound}\n'
        (tmp_path / f"{name}.toml").write_text(f'title = "≤ {name}"\n{threshold}', encoding="utf-8")
    return path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_stream_of_another_encoding_changes_no_exit_code(results: Path, encoding: str) -> None:
    for name, code in (("holds", 0), ("falls", 1)):
        junit = results.parent / "gate.xml"
        done = run(
            "gate", str(results), "-t", str(results.parent / f"{name}.toml"), "--junit", str(junit), encoding=encoding
        )
        assert done.returncode == code, done.stderr
        assert junit.is_file()
        junit.unlink()
        assert "9" in done.stdout.decode(encoding)


def test_every_kind_of_output_can_be_said_in_ascii(results: Path, clips: Path) -> None:
    for arguments in (
        ("report", str(results)),
        ("components", "samplers"),
        ("evaluate", str(clips), "-m", "loudness", "--store", str(clips.parent / "store")),
    ):
        done = run(*arguments, encoding="ascii")
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.isascii()


def test_a_reader_that_goes_away_changes_no_exit_code(results: Path) -> None:
    for name, code in (("holds", "0"), ("falls", "1")):
        done = run("gate", str(results), "-t", str(results.parent / f"{name}.toml"), shell_after="| true")
        assert done.stderr.decode().split() == [code]


@pytest.mark.parametrize("after", ["| true", ">&-", "2>&-"])
@pytest.mark.parametrize("asked", ["--help"])
def test_help_that_nobody_reads_changes_no_exit_code(asked: str, after: str) -> None:
    line = f"{sys.executable} -m melody {asked} {after}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_files_are_saved_before_anything_is_printed(clips: Path) -> None:
    json_file, html = clips.parent / "r.json", clips.parent / "r.html"
    outputs = ("--json", str(json_file), "--html", str(html), "--store", str(clips.parent / "store"))
    done = run("evaluate", str(clips), "-m", "loudness", *outputs, shell_after="| true")
    assert done.stderr.decode().split()[-1] == "0"
    assert json.loads(json_file.read_text())
    assert html.is_file()


@pytest.mark.parametrize("arguments", [["--json", "/proc/r.json"], ["--html", "/proc/r.html"]])
def test_a_folder_that_cannot_be_written_is_found_before_the_work(clips: Path, arguments: list[str]) -> None:
    store = clips.parent / "store"
    done = run("evaluate", str(clips), "--store", str(store), *arguments)
    assert done.returncode == 2
    assert "cannot write /proc/r." in done.stderr.decode()
    assert not store.exists()


def test_reproduce_finds_a_folder_that_cannot_be_written_before_the_work(tmp_path: Path) -> None:
    done = run("reproduce", "table4", "--output", "/proc/results", "--store", str(tmp_path / "store"))
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1].startswith("melody: error: cannot write /proc/")
    assert not list(tmp_path.iterdir())


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    said = io.StringIO()
    with PlainProgress(Console(file=said, width=200), every_s=0.05) as progress:
        task = progress.add_task("clips", total=None)
        time.sleep(0.12)
        progress.update(task, completed=0, total=12, description="clips of a")
        progress.update(task, completed=3, description="clips of a")
        time.sleep(0.12)
    lines = said.getvalue().splitlines()
    assert lines[0] == "clips: 0:00 gone"
    assert lines[-1].startswith("clips of a: 3 of 12, 0:00 gone, about 0:0")
    assert 2 <= len(lines) <= 5


def test_time_left_is_of_the_work_that_is_named() -> None:
    progress = PlainProgress(Console(file=io.StringIO(), width=200))
    task = progress.add_task("reading", total=None)
    time.sleep(1.5)
    progress.update(task, completed=99, total=100, description="reading")
    progress.update(task, completed=40, total=80, description="units")
    assert "left" not in progress.line(), "of 80 units 40 were there when they began"
    time.sleep(0.05)
    progress.update(task, completed=41, total=80, description="units")
    assert progress.line().startswith("units: 41 of 80, 0:")
    assert 1 <= int(progress.line().split("about 0:")[1].split()[0]) < 20


def test_progress_that_is_short_says_nothing() -> None:
    said = io.StringIO()
    with PlainProgress(Console(file=said)) as progress:
        progress.add_task("clips", total=4)
    assert said.getvalue() == ""
    assert clock(3_599.6) == "1:00:00"
