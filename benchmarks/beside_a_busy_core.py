"""Commands beside a busy process: wall time of ours against one thread's and all threads', in turn, idle and busy.

    python benchmarks/beside_a_busy_core.py [--repeats 3]

Each line is a ratio of medians on this machine: ``ours / one thread`` is to be at most 1.5 beside a busy process, and
``ours / all threads`` about 1 on an idle one. ``all threads`` is what torch does by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROMPT = "a calm flute melody"
LONGEST_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    cores = str(len(os.sched_getaffinity(0)))
    ways = {"ours": [], "one thread": ["--threads", "1"], "all threads": ["--threads", cores]}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in commands(Path(folder)).items():
            for busy in (False, True):
                with beside(busy):
                    rounds = [{way: seconds([*arguments, *more]) for way, more in ways.items()} for _ in range(repeats)]
                medians = {way: statistics.median(one[way] for one in rounds) for way in ways}
                where = "beside a busy process" if busy else "idle"
                told = ", ".join(f"{way} {value:.1f} s" for way, value in medians.items())
                one, all_ = (medians["ours"] / medians[way] for way in ("one thread", "all threads"))
                print(
                    f"{name}, {where}: {told}; ours / one thread {one:.2f}, ours / all threads {all_:.2f}", flush=True
                )


def commands(folder: Path) -> dict[str, list[str]]:
    """Command lines by name; the clips that ``evaluate`` measures are made first."""
    clips = folder / "clips"
    clips.mkdir()
    for seed in range(4):
        seconds(["generate", PROMPT, "--steps", "5", "--seed", str(seed), "-o", str(clips / f"{seed}.wav")])
    return {
        "generate": ["generate", PROMPT, "--steps", "5", "--duration", "30", "-o", str(folder / "out.wav")],
        "evaluate": ["evaluate", str(clips), "--store", str(folder / "store")],
    }


def seconds(arguments: list[str]) -> float:
    """Wall seconds of one command, which must succeed."""
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    begin = time.perf_counter()
    line = [sys.executable, "-m", "melody", *arguments]
    subprocess.run(line, check=True, env=free, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LONGEST_S)
    return time.perf_counter() - begin


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """With a process that does nothing but count, or without one."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


if __name__ == "__main__":
    main()
