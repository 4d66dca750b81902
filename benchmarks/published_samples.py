"""The page of the paper's published samples: ``python benchmarks/published_samples.py FOLDER``.

MeLoDy against MusicLM on the prompts that both were given, and uniform against linear angle schedules, by every metric
that needs no weights of others. Written are ``reports/published-samples.json`` (every number, and every clip's),
``published-samples.md`` and ``published-samples.png``; ``--render`` writes the last two from the first again.

FOLDER is a clone of the authors' demo page (Efficient-MeLoDy/Efficient-MeLoDy.github.io), or a folder with
``metadata.csv`` of the same samples; without it, the environment's MELODY_PUBLISHED_SAMPLES.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import published_page
import soundfile
import torch
from torch import Tensor

from melody.artifacts.files import write_bytes
from melody.data.audio import read_audio
from melody.data.corpus import Clip
from melody.data.loading import load_corpus
from melody.embedders.mel_stats import MelStats
from melody.errors import MelodyError
from melody.evaluation.compare import compare
from melody.evaluation.evaluate import evaluate
from melody.evaluation.result import Evaluation
from melody.metrics.frechet import Statistics, frechet_distance_of
from melody.metrics.loudness import integrated_loudness

REPORTS = Path(__file__).resolve().parents[1] / "reports"
MELODY, MUSICLM = "MeLoDy", "MusicLM"
TAGGER = "melody-joint-tags"
PROXIES = ["beat-strength", "tempo-stability", "key-clarity", "structure", "repetition"]
LEVELS = ["loudness", "peak", "clipping-rate", "silence-rate"]
TEXTS = ["mcc", "recall-at-1", "recall-at-5", "recall-at-10", "median-rank"]
NEIGHBOURS = ["kad", "precision", "recall", "density", "coverage"]
DISTANCES = ["fad", "fad-inf", "fad-per-clip", *NEIGHBOURS]
SWAPS = 999
LEVEL_LUFS = -23.0
HIGH_HZ = (4_000, 8_000, 10_000)
Progress = Callable[[int, int, str], None]


def main() -> None:
    """Measure and write, or only write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("MELODY_PUBLISHED_SAMPLES"))
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for the three files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--swaps", type=int, default=SWAPS, help="of the two systems within pairs, for the p-value")
    parser.add_argument("--render", action="store_true", help="write page and plot from the JSON file that is there")
    arguments = parser.parse_args()
    kept = arguments.out / "published-samples.json"
    try:
        if not arguments.render:
            if arguments.folder is None:
                raise MelodyError("name the folder of published samples, or set MELODY_PUBLISHED_SAMPLES")
            found = measure(Path(arguments.folder), seed=arguments.seed, swaps=arguments.swaps)
            write_bytes(kept, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
        published_page.write(json.loads(kept.read_text(encoding="utf-8")), arguments.out)
    except MelodyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def measure(folder: Path, *, seed: int = 0, swaps: int = SWAPS) -> dict[str, Any]:
    """Everything that the page says, as plain values."""
    corpus = load_corpus(folder)
    with tempfile.TemporaryDirectory() as scratch:
        sets = staged(list(corpus), Path(scratch))
        return {
            **_systems(sets, Path(scratch), seed),
            "schedules": _schedules(sets, Path(scratch), seed),
            "swapped": swapped(sets[MELODY], sets[MUSICLM], seed=seed, swaps=swaps),
            "swapped_at_one_loudness": swapped(
                sets[MELODY], sets[MUSICLM], seed=seed, swaps=swaps, level_lufs=LEVEL_LUFS
            ),
            "sounds": {name: high_frequencies(sets[name]) for name in (MELODY, MUSICLM)},
        }


def staged(clips: Sequence[Clip], scratch: Path) -> dict[str, Path]:
    """One folder a set, where clips of one prompt have one name, each with its ``captions.csv``."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for clip in clips:
        facts = clip.attributes
        prompt = clip.identifier.partition("/")[2]
        if facts.get("category") == "angle-schedules":
            name = f"{facts['angle_schedule']} {facts['num_steps']}"
            prompt = prompt.removesuffix(f".{facts['angle_schedule']}.{facts['num_steps']}")
        else:
            name = {"melody": MELODY, "musiclm": MUSICLM}[str(facts["system"])]
            prompt = prompt.removesuffix(f".{facts['system']}")
        path = scratch / name / f"{prompt}.flac"  # read by its content, whatever the extension
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip.audio.content())
        rows.setdefault(name, []).append((f"{prompt}.flac", clip.text))
    for name, listed in rows.items():
        with (scratch / name / "captions.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file_name", "text"), *listed])
    if lacking := [name for name in (MELODY, MUSICLM) if name not in rows]:
        raise MelodyError(f"the folder holds no samples by {lacking[0]}")
    return {name: scratch / name for name in rows}


def _systems(sets: dict[str, Path], scratch: Path, seed: int) -> dict[str, Any]:
    a, b = sets[MELODY], sets[MUSICLM]
    how: dict[str, Any] = {"seed": seed, "store": scratch / "records"}
    paired = compare(
        a,
        b,
        captions=a / "captions.csv",
        metrics=[*PROXIES, *LEVELS, *TEXTS, "label-is"],
        taggers=[TAGGER],
        skip_bad=True,
        progress=_say,
        **how,
    )
    return {
        "paired": _plain(paired),
        "to_musiclm": [_plain(one) for one in _distances(a, b, how)],
        "to_melody": [_plain(one) for one in _distances(b, a, how)],
    }


def _distances(generated: Path, reference: Path, how: dict[str, Any]) -> list[Evaluation]:
    """By windows of 1 s; and by one vector a clip, too few for a covariance of its 128 dimensions."""
    by_windows = evaluate(generated, reference=reference, metrics=DISTANCES, progress=_say, **how)
    by_clips = evaluate(
        generated,
        reference=reference,
        metrics=[*NEIGHBOURS, "kl", "kl-pooled"],
        embedders=["melody-joint"],
        taggers=[TAGGER],
        skip_bad=True,
        progress=_say,
        **how,
    )
    return [by_windows, by_clips]


def _schedules(sets: dict[str, Path], scratch: Path, seed: int) -> dict[str, Any]:
    """Linear minus uniform, by number of steps."""
    found = {}
    for steps in ("10", "20"):
        if f"linear {steps}" in sets and f"uniform {steps}" in sets:
            a, b = sets[f"linear {steps}"], sets[f"uniform {steps}"]
            metrics = [*PROXIES, *LEVELS, "mcc"]
            both = compare(
                a, b, captions=a / "captions.csv", metrics=metrics, seed=seed, store=scratch / "records", skip_bad=True
            )
            found[steps] = _plain(both)
    return found


def _plain(result: Any) -> dict[str, Any]:
    """As JSON, with a folder's name in the place of where this run had it."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: Path(one).name if key == "folder" else named(one) for key, one in value.items()}
        return [named(one) for one in value] if isinstance(value, list) else value

    plain: dict[str, Any] = named(result.model_dump(mode="json"))
    return plain


def _say(done: int, total: int, label: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} {label:40.40}", end="", file=sys.stderr)


def _clips(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.flac"))


def at_loudness(waveform: Tensor, sample_rate: int, lufs: float) -> Tensor:
    """A clip ``(T,)`` at an integrated loudness; silence as it is."""
    loudness = integrated_loudness(waveform, sample_rate)
    return waveform * 10 ** ((lufs - loudness) / 20) if np.isfinite(loudness) else waveform


def _statistics(folder: Path, level_lufs: float | None) -> list[Statistics]:
    embedder = MelStats()
    found = []
    for path in _clips(folder):
        waveform = read_audio(path, embedder.sample_rate)
        if level_lufs is not None:
            waveform = at_loudness(waveform, embedder.sample_rate, level_lufs)
        with torch.inference_mode():
            found.append(Statistics.of(embedder.embed(waveform)))
    return found


def swapped(a: Path, b: Path, *, seed: int, swaps: int, level_lufs: float | None = None) -> dict[str, Any]:
    """What the Fréchet distance is if it does not matter who made a clip: the systems swapped within pairs, by coin.

    The p-value is of the hypothesis that the two clips of a prompt are exchangeable; the observed one counts with them.
    """
    pairs = list(zip(_statistics(a, level_lufs), _statistics(b, level_lufs), strict=True))

    def distance(swap: Sequence[bool]) -> float:
        sides = [_sum([pair[bool(one) ^ other] for pair, one in zip(pairs, swap, strict=True)]) for other in (0, 1)]
        return frechet_distance_of(sides[0], sides[1])

    observed = distance([False] * len(pairs))
    rng = np.random.default_rng(seed)
    null = np.array([distance((rng.random(len(pairs)) < 0.5).tolist()) for _ in range(swaps)])
    return {
        "metric": "fad[mel-stats]",
        "level_lufs": level_lufs,
        "observed": observed,
        "mean": float(null.mean()),
        "high": float(np.quantile(null, 0.95)),
        "p_value": float((1 + (null >= observed).sum()) / (1 + swaps)),
        "swaps": swaps,
        "pairs": len(pairs),
    }


def _sum(parts: Sequence[Statistics]) -> Statistics:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def high_frequencies(folder: Path) -> dict[str, Any]:
    """Power above some frequencies beside the whole, in dB, median over clips; and the clips' lengths in seconds."""
    shares: dict[int, list[float]] = {edge: [] for edge in HIGH_HZ}
    durations = []
    for path in _clips(folder):
        samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
        durations.append(len(samples) / rate)
        power = np.abs(np.fft.rfft(samples.mean(axis=1))) ** 2
        frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
        for edge in HIGH_HZ:
            shares[edge].append(10 * np.log10(power[frequencies >= edge].sum() / power.sum() + 1e-20))
    return {
        "shortest_s": min(durations),
        "longest_s": max(durations),
        "above_db": {str(edge): float(np.median(values)) for edge, values in shares.items()},
    }


if __name__ == "__main__":
    main()
