"""How many threads a command computes with, in processes of their own: the number is torch's, for the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from melody import threads


def run(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=kept | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BEGIN = "from melody import threads; threads.govern(); import torch; n = torch.get_num_threads\n"


def test_a_command_has_one_thread_and_free_cores_where_music_is_made() -> None:
    said = run(
        BEGIN + "threads._free_cores = lambda: 2\n"
        "print(n())\n"
        "with threads.every_free_core():\n"
        "    print(n())\n"
        "    threads._free_cores = lambda: 1\n"
        "    threads._Policy.last = (0.0, 0.0, 0.0)\n"
        "    threads.adapt()\n"
        "    print(n())\n"
        "print(n())\n"
    )
    assert said.split() == ["1", "2", "1", "1"]


def test_a_number_that_is_given_is_kept() -> None:
    code = BEGIN + "threads._free_cores = threads.cores = lambda: 2\n"
    code += "with threads.every_free_core(): print(n())\nwith threads.every_core(): print(n())\nprint(n())"
    assert run(code, OMP_NUM_THREADS="1").split() == ["1", "1", "1"]
    assert run(code.replace("import torch", "threads.fix(1); import torch")).split() == ["1", "1", "1"]


def test_a_library_leaves_the_number_alone() -> None:
    said = run(
        "import torch; torch.set_num_threads(3)\n"
        "from melody import threads\n"
        "with threads.every_free_core():\n"
        "    threads.adapt(); print(torch.get_num_threads())\n"
    )
    assert said.split() == ["3"]


def test_timings_get_every_core_and_say_so() -> None:
    said = run(BEGIN + "with threads.every_core(): print(n() == threads.cores() == threads.of_timings())\nprint(n())")
    assert said.split() == ["True", "1"]


@pytest.mark.parametrize(("others", "free"), [(0.0, 4), (0.2, 4), (0.9, 3), (1.0, 3), (3.6, 1), (9.0, 1)])
def test_cores_that_others_use_are_not_ours(monkeypatch: pytest.MonkeyPatch, others: float, free: int) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads._Policy, "last", (10.0, 100.0, 5.0))
    monkeypatch.setattr(threads, "_sample", lambda: (12.0, 100.0 + 2 * (others + 1.5), 8.0))
    assert threads._free_cores() == free


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_control_group_s_quota_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], quota: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n", encoding="ascii")
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    assert threads._quota() == quota


def test_music_has_the_same_bits_with_any_number_of_threads() -> None:
    code = (
        "import torch, melody, hashlib; torch.set_num_threads({})\n"
        "pipeline = melody.MelodyPipeline.from_preset('demo')\n"
        "made = pipeline('a calm flute melody', num_steps=2, seeds=0, duration_s=2.5)\n"
        "print(hashlib.sha256(made.waveform.numpy().tobytes()).hexdigest())\n"
    )
    assert run(code.format(1)) == run(code.format(2))


def test_training_waits_without_spinning() -> None:
    code = "import os; from melody import threads; threads.govern(); threads.fix_patiently()\n"
    assert run(code + "print(os.environ['OMP_WAIT_POLICY'])").split() == ["PASSIVE"]


def test_zero_threads_are_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "melody", "generate", "a waltz", "--threads", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--threads" in done.stderr
    assert len(done.stderr.splitlines()) == 1
