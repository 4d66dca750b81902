"""``melody evaluate`` against frechet-audio-distance, same embedder: ``python benchmarks/evaluate_speed.py``.

Each side is one fresh process over the same two folders, from the files to the Fréchet distance. The peer's own path is
run: its loading of a whole folder by threads, its list of embeddings, its matrix square root. Its model is replaced by
the embedder that ours uses, since the network's weights are a download; so what is compared is everything around the
embedder. Ours also takes the interval and the controls, and keeps every clip's embedding on disk as it goes.

Printed: seconds of the processor for an hour of audio, and peak memory, as ratios too. The distances need not agree to
the last digit: the peer resamples, where it must, by another resampler.
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


def main() -> None:
    """Measure both sides, and print a table; ``--json`` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64, help="in each of the two folders")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--embedder", default="mel-stats", help="NAME or NAME:argument=value, as of melody evaluate")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        side, generated, reference = arguments.one
        print(json.dumps(SIDES[side](Path(generated), Path(reference), arguments.embedder)))
        return
    hours = 2 * arguments.clips * arguments.seconds / 3600
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("generated", "reference")]
        rate = embedder_rate(arguments.embedder)
        for seed, folder in enumerate(folders):
            write_clips(folder, arguments.clips, arguments.seconds, rate, seed)
        for _ in range(arguments.repeats):
            for side in SIDES:
                rows.append({"side": side, **_fresh(side, folders, arguments.embedder, hours)})
                Console(stderr=True).print(rows[-1])
    best = {side: min(row["processor_s_an_hour"] for row in rows if row["side"] == side) for side in SIDES}
    memory = {side: min(row["peak_mb"] for row in rows if row["side"] == side) for side in SIDES}
    table = Table("", "processor seconds an hour of audio", "peak memory, MB")
    for side in SIDES:
        table.add_row(side, f"{best[side]:,.1f}", f"{memory[side]:,.0f}")
    table.add_row("peer / ours", f"{best['peer'] / best['ours']:.2f}", f"{memory['peer'] / memory['ours']:.2f}")
    Console().print(table)
    if arguments.json:
        facts = {"embedder": arguments.embedder, "hours": hours, "rows": rows}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


def _fresh(side: str, folders: list[Path], embedder: str, hours: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--embedder", embedder, "--one", side, *map(str, folders)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"processor_s_an_hour": found["processor_s"] / hours}


def embedder_rate(embedder: str) -> int:
    """So that neither side resamples."""
    from melody.evaluation.features import embedder_extractor

    return int(embedder_extractor(embedder, "cpu").model.sample_rate)


def write_clips(folder: Path, count: int, seconds: float, rate: int, seed: int) -> None:
    """Noise of some colour, another one for every clip."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for place in range(count):
        samples = np.convolve(rng.standard_normal(round(seconds * rate)), np.ones(1 + place % 7) / 7, "same")
        soundfile.write(folder / f"{place:05d}.wav", 0.2 * samples, rate, subtype="PCM_16")


def ours(generated: Path, reference: Path, embedder: str) -> dict[str, float]:
    """``evaluate`` with its interval and controls."""
    from melody.evaluation.evaluate import evaluate

    store = generated.parent / f"records-{time.time_ns()}"
    os.environ["MELODY_CACHE"] = f"{store}-cache"  # nothing is known from before
    begin = _used()
    result = evaluate(generated, reference=reference, metrics=["fad"], embedders=[embedder], store=store, skip_bad=True)
    value = result["fad"].value
    assert value is not None
    return {"value": value, **_since(begin)}


def peer(generated: Path, reference: Path, embedder: str) -> dict[str, float]:
    """``FrechetAudioDistance.score`` with our embedder in the place of its network."""
    import torch
    from frechet_audio_distance import FrechetAudioDistance

    from melody.evaluation.features import embedder_extractor

    model = embedder_extractor(embedder, "cpu").model

    class Network:
        """What the peer calls with the samples of a clip."""

        def forward(self, audio: np.ndarray, sample_rate: int) -> torch.Tensor:
            with torch.inference_mode():
                embedded: torch.Tensor = model.embed(torch.from_numpy(audio.astype(np.float32)))
            return embedded

    score = FrechetAudioDistance.__new__(FrechetAudioDistance)  # its constructor would download weights
    score.__dict__ |= {
        "model_name": "vggish",
        "sample_rate": int(model.sample_rate),
        "channels": 1,
        "verbose": False,
        "device": torch.device("cpu"),
        "audio_load_worker": 8,
        "model": Network(),
    }
    begin = _used()
    value = float(score.score(str(reference), str(generated)))
    assert value != -1, "the peer failed; it prints why and returns -1"
    return {"value": value, **_since(begin)}


SIDES = {"ours": ours, "peer": peer}


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _since(begin: float) -> dict[str, float]:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"processor_s": _used() - begin, "peak_mb": peak_mb}


if __name__ == "__main__":
    main()
