"""What moves a Fréchet audio distance: ``python benchmarks/protocol_spread.py FOLDER``.

The distance from MeLoDy's published samples to MusicLM's, with one thing changed at a time: protocol, resampler, mono
mix, level, window and hop, number of clips. FOLDER as of ``published_samples.py``. Printed is the table of
``docs/metrics.md``; ``--json`` keeps the numbers.

VGGish's weights are a download: name the file with ``--vggish``. Without it the rows of its protocols are by random
weights, which say nothing of these systems, and show only that protocol and resampler alone move the number.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import soxr
import torch
from published_samples import LEVEL_LUFS, MELODY, MUSICLM, at_loudness, staged
from scipy.signal import resample_poly
from torch import Tensor

from melody.artifacts.provenance import device_name, versions
from melody.data.audio import read_audio
from melody.data.loading import load_corpus
from melody.embedders.fad_protocols import EMBEDDED, FadProtocol, prepared, windows
from melody.embedders.mel_stats import log_mel
from melody.embedders.vggish import VggishGoogle, VggishNetwork, VggishTorchvggishStripped
from melody.metrics.fad_infinity import fad_infinity
from melody.metrics.frechet import Statistics, frechet_distance_of

NATIVE = 24_000
SUBSETS = 20
VGGISH_PROMPTS = 16
Sets = tuple[list[Tensor], list[Tensor]]
"""Waveforms ``(T,)`` at 24 kHz of MeLoDy and MusicLM, by prompt; or their embeddings."""


@dataclass(frozen=True)
class Row:
    """One number, and by how much it differs from its group's first."""

    changed: str
    how: str
    value: float
    base: float
    clips: int
    """Of each system."""

    @property
    def change(self) -> str:
        return "" if self.how.endswith("(base)") else f"{100 * (self.value / self.base - 1):+.2f} %"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("MELODY_PUBLISHED_SAMPLES"))
    parser.add_argument("--vggish", type=Path, help="VGGish's weights; random ones without")
    parser.add_argument("--no-vggish", action="store_true", help="leave its rows out: they take most of the time")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("name the folder of published samples, or set MELODY_PUBLISHED_SAMPLES")
    sets = read(Path(arguments.folder))
    with torch.inference_mode():
        rows = list(by_mel_stats(sets))
        if not arguments.no_vggish:
            rows += list(by_vggish(sets, arguments.vggish))
    print(table(rows))
    if arguments.json:
        facts = {"device": device_name("cpu"), "versions": versions(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> Sets:
    """Both systems' clips, in the order of the prompts."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = staged(list(load_corpus(folder)), Path(scratch))
        found = [
            [read_audio(path, NATIVE) for path in sorted(folders[name].rglob("*.flac"))] for name in (MELODY, MUSICLM)
        ]
    return found[0], found[1]


def embedded(waveform: Tensor, protocol: FadProtocol = EMBEDDED) -> Tensor:
    """``mel-stats``, by other windows."""
    bands = log_mel(windows(prepared(waveform, protocol), protocol))
    parts = [bands.mean(dim=2), bands.std(dim=2, correction=0), bands.diff(dim=2).abs().mean(dim=2)]
    return torch.cat(parts, dim=1)


def distance(sets: Sets) -> float:
    """Of two sets of embeddings, a tensor a clip."""
    a, b = (Statistics.of(torch.cat(side)) for side in sets)
    return frechet_distance_of(a, b)


def mapped(sets: Sets, change: Callable[[Tensor], Tensor]) -> Sets:
    """Every clip, changed."""
    return [change(one) for one in sets[0]], [change(one) for one in sets[1]]


def by_mel_stats(sets: Sets) -> Iterator[Row]:
    """Every row that needs no weights."""
    count = len(sets[0])
    base_sets = mapped(sets, embedded)
    base = distance(base_sets)

    def row(changed: str, how: str, value: float, clips: int = count) -> Row:
        return Row(changed, how, value, base, clips)

    def of(change: Callable[[Tensor], Tensor]) -> float:
        return distance(mapped(sets, lambda waveform: embedded(change(waveform))))

    yield row("protocol", "`mel-stats`, embedded (base)", base)
    stored = mapped(sets, lambda waveform: _soxr(waveform, NATIVE, 44_100, "VHQ"))
    for name, resample in RESAMPLERS.items():
        heard = mapped(stored, lambda waveform, resample=resample: embedded(resample(waveform, 44_100, NATIVE)))  # type: ignore[misc]
        yield row("resampler", f"files at 44.1 kHz, {name}", distance(heard))
    yield row(
        "resampler", "by way of 16 kHz, soxr HQ", of(lambda x: _soxr(_soxr(x, NATIVE, 16_000, "HQ"), 16_000, NATIVE))
    )
    stereo = mapped(sets, lambda waveform: torch.stack([waveform, waveform]))
    yield row("mono mix", "mean of channels", distance(mapped(stereo, lambda x: embedded(x.mean(dim=0)))))
    yield row("mono mix", "left channel", distance(mapped(stereo, lambda x: embedded(x[0]))))
    yield row("mono mix", "sum of channels", distance(mapped(stereo, lambda x: embedded(x.sum(dim=0)))))
    summed = [embedded(x.sum(dim=0)) for x in stereo[0]]
    yield row("mono mix", "sum of MeLoDy's, mean of MusicLM's", distance((summed, base_sets[1])))
    yield row("level", "divided by max(0.1, largest sample)", of(lambda x: x / max(0.1, float(x.max()))))
    yield row("level", "−23 LUFS", of(lambda x: at_loudness(x, NATIVE, LEVEL_LUFS)))
    for window_s, hop_s in ((1.0, 1.0), (0.96, 0.96), (1.0, 0.25)):
        other = replace(EMBEDDED, window_s=window_s, cut_s=window_s, hop_s=hop_s)
        value = distance(mapped(sets, lambda x, other=other: embedded(x, other)))  # type: ignore[misc]
        yield row("window / hop", f"{window_s:g} s / {hop_s:g} s", value)
    for clips in (16, 32):
        if clips < count:
            yield row("n", f"mean of {SUBSETS} draws of {clips} prompts", _of_fewer(base_sets, clips), clips)
    extrapolated = fad_infinity(base_sets[0], Statistics.of(torch.cat(base_sets[1])))
    yield row("n", "`fad-inf`: endlessly many of MeLoDy's", extrapolated.value)


def _of_fewer(sets: Sets, clips: int) -> float:
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(sets[0]), clips, replace=False) for _ in range(SUBSETS)]
    return float(np.mean([distance(([sets[0][i] for i in some], [sets[1][i] for i in some])) for some in drawn]))


def by_vggish(sets: Sets, weights: Path | None) -> Iterator[Row]:
    """VGGish's protocols, and the resamplers where something must be resampled, on a few prompts."""
    few: Sets = (sets[0][:VGGISH_PROMPTS], sets[1][:VGGISH_PROMPTS])
    label = "" if weights else ", **random weights**"
    with tempfile.TemporaryDirectory() as scratch:
        path = str(weights or _random_weights(Path(scratch)))
        google, stripped = VggishGoogle(path), VggishTorchvggishStripped(path)
    heard = mapped(few, lambda x: google.embed(_soxr(x, NATIVE, 16_000)))
    base, clips = distance(heard), len(few[0])
    yield Row("protocol", f"`vggish`, google-fad{label} (base)", base, base, clips)
    for place, (name, resample) in enumerate(RESAMPLERS.items()):
        heard = mapped(few, lambda x, resample=resample: stripped.embed(resample(x, NATIVE, 16_000)))  # type: ignore[misc]
        value = distance(heard)
        if not place:  # the other protocol is the same vectors, after the last ReLU
            first = value
            yield Row("protocol", f"`vggish`, torchvggish-fad{label}", distance(mapped(heard, torch.relu)), base, clips)
            yield Row("protocol", f"`vggish`, torchvggish-fad-stripped{label}", value, base, clips)
        how = f"`vggish`, torchvggish-fad-stripped, {name}{label}{'' if place else ' (base)'}"
        yield Row("resampler", how, value, first, clips)


def _random_weights(folder: Path) -> Path:
    """Scaled so that activations neither die nor grow, seed 0; written, so that the real loading code reads them."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = VggishNetwork().state_dict()
    tensors = {
        name: torch.full(like.shape, 0.01)
        if like.ndim == 1
        else torch.empty(like.shape).uniform_(-1, 1, generator=generator) * (6 / like[0].numel()) ** 0.5
        for name, like in shapes.items()
    }
    path = folder / "vggish.safetensors"
    save_file(tensors, path)
    return path


def _soxr(waveform: Tensor, native: int, rate: int, quality: str = "HQ") -> Tensor:
    return torch.from_numpy(soxr.resample(waveform.numpy(), native, rate, quality=quality))


def _polyphase(waveform: Tensor, native: int, rate: int) -> Tensor:
    common = int(np.gcd(native, rate))
    return torch.from_numpy(resample_poly(waveform.numpy(), rate // common, native // common).astype(np.float32))


RESAMPLERS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "soxr HQ": _soxr,
    "soxr QQ": lambda waveform, native, rate: _soxr(waveform, native, rate, "QQ"),
    "scipy polyphase": _polyphase,
}


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = ["| what | how | clips a system | distance | change |", "|---|---|---:|---:|---:|"]
    for row in rows:
        change = row.change.replace("-", "−")
        lines.append(f"| {row.changed} | {row.how} | {row.clips} | {row.value:.4g} | {change} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
