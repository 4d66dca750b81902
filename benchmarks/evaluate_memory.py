"""Peak memory of ``melody evaluate`` against the number of clips: ``python benchmarks/evaluate_memory.py``.

Each size is one fresh process that measures a folder against a reference of 100 clips; clips are short, so that the
figure is of what is kept for a clip and not of one clip's own sound. ``fad``, ``peak``, ``silence-rate``: metrics whose
states are sums. With ``--all-vectors`` the metrics that keep every vector come on top, which grow with the set.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

RATE = 8_000
REFERENCE_CLIPS = 100
SUMS = ("fad", "peak", "silence-rate")
ALL_VECTORS = ("fad-inf", "fad-per-clip")


def main() -> None:
    """Measure, and print a table; ``--json`` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a clip")
    parser.add_argument("--all-vectors", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    metrics = [*SUMS, *(ALL_VECTORS if arguments.all_vectors else ())]
    if arguments.one:
        print(json.dumps(measure(*arguments.one, metrics)))
        return
    rows = []
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            generated, reference = Path(scratch) / "generated", Path(scratch) / "reference"
            write_clips(generated, size, arguments.seconds, seed=1)
            write_clips(reference, REFERENCE_CLIPS, max(1.0, arguments.seconds), seed=2)
            command = [sys.executable, __file__, "--one", str(generated), str(reference)]
            command += ["--all-vectors"] if arguments.all_vectors else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"clips": size, **json.loads(done.stdout.splitlines()[-1])})
            Console(stderr=True).print(rows[-1])
    table = Table("clips", "peak memory, MB", "seconds", "seconds, processor")
    for row in rows:
        values = (row["clips"], row["peak_mb"], row["seconds"], row["processor_s"])
        table.add_row(*(f"{value:,.0f}" for value in values))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"metrics": metrics, "rows": rows}, indent=1) + "\n")


def write_clips(folder: Path, count: int, seconds: float, *, seed: int) -> None:
    """Noise of some colour, another one for every clip."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for place in range(count):
        samples = np.convolve(rng.standard_normal(round(seconds * RATE)), np.ones(1 + place % 7) / 7, "same")
        soundfile.write(folder / f"{place:05d}.wav", 0.2 * samples, RATE, subtype="PCM_16")


def measure(generated: Path, reference: Path, metrics: list[str]) -> dict[str, float]:
    """Evaluate in this process."""
    from melody.evaluation.evaluate import evaluate

    os.environ["MELODY_CACHE"] = str(generated.parent / "cache")
    begin = time.perf_counter()
    result = evaluate(generated, reference=reference, metrics=metrics, store=generated.parent / "records")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    assert result["fad"].scored == len(list(generated.iterdir()))
    return {
        "peak_mb": usage.ru_maxrss / 1024,
        "seconds": time.perf_counter() - begin,
        "processor_s": usage.ru_utime + usage.ru_stime,
    }


if __name__ == "__main__":
    main()
