"""Whether a codec's latents are those that a denoiser takes: their width, their rate, and their statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melody import registry
from melody.artifacts.pretrained import read_card
from melody.artifacts.weights import load_weights, stored_component
from melody.config import Preset
from melody.devices import place_of
from melody.errors import MelodyError
from melody.protocols import Codec, Denoiser

Statistics = dict[str, list[float]]
"""``mean`` and ``std`` of each latent value over the frames of the probe."""
PROBE_S = 2.0
TOLERANCE = 0.1
"""Of the difference of statistics, relative to the latents' size: ours. An encoder in float16 is within 0.001 of
itself, another seed of the same codec differs by about 1."""


def check_sizes(preset: Preset, codec: Codec, denoiser: Denoiser) -> None:
    """Raise ``MelodyError`` for a codec whose latents have another width or rate than the denoiser takes."""
    who = f"preset {preset.name!r}: codec {preset.codec.use!r} makes latents of"
    theirs = f"but denoiser {preset.denoiser.use!r} takes"
    if codec.latent_dim != denoiser.latent_dim:
        raise MelodyError(f"{who} {codec.latent_dim} values a frame, {theirs} {denoiser.latent_dim}")
    rate = preset.denoiser.arguments.get("frame_rate")
    if rate is not None and not math.isclose(rate, codec.frame_rate, rel_tol=1e-3):
        raise MelodyError(f"{who} {codec.frame_rate:g} frames a second, {theirs} {rate:g}")


@torch.inference_mode()
def latent_statistics(codec: Codec) -> Statistics:
    """Statistics of the latents of a fixed sound, by which one codec's latents are told from another's."""
    latents = codec.encode(_probe(codec.sample_rate).to(place_of(codec)))[0].double().cpu()  # (L, D)
    return {"mean": latents.mean(dim=0).tolist(), "std": latents.std(dim=0).tolist()}


def check_learnt(preset: Preset, codec: Codec, files: Mapping[str, Path]) -> None:
    """Raise ``MelodyError`` for a codec from elsewhere whose latents are not those that the denoiser learnt.

    The card of the denoiser tells their statistics; else the codec that lies beside the denoiser does.
    """
    if "denoiser" not in files or _lie_together(files):
        return
    learnt = _learnt(files["denoiser"])
    if learnt is None:
        return
    apart = difference(latent_statistics(codec), learnt)
    if not apart <= TOLERANCE:
        source = files.get("codec", f"preset {preset.name!r}")
        raise MelodyError(
            f"codec {preset.codec.use!r} of {source} makes other latents than those that denoiser "
            f"{preset.denoiser.use!r} of {files['denoiser']} learnt: their statistics differ by {apart:.0%}, expected "
            f"at most {TOLERANCE:.0%}; train the denoiser on them (melody train dpd)"
        )


def difference(statistics: Statistics, others: Statistics) -> float:
    """Root mean square of the differences of means and deviations, relative to that of the others' deviations.

    >>> difference({"mean": [0.0], "std": [1.5]}, {"mean": [0.0], "std": [1.0]})
    0.5
    """
    pairs = [(torch.tensor(statistics[name]), torch.tensor(others[name])) for name in ("mean", "std")]
    if any(first.shape != second.shape for first, second in pairs):
        return math.inf
    squares = sum(float((first - second).square().mean()) for first, second in pairs)
    size = float(pairs[1][1].square().mean())
    return math.sqrt(squares / size) if size else math.sqrt(squares)


def _lie_together(files: Mapping[str, Path]) -> bool:
    return "codec" in files and files["codec"].resolve().parent == files["denoiser"].resolve().parent


def _learnt(denoiser: Path) -> Statistics | None:
    """Statistics of what a denoiser learnt, as far as its folder tells."""
    card: dict[str, Any] = read_card(denoiser.parent) or {}
    told: Statistics | None = card.get("denoiser", {}).get("latents")
    beside = denoiser.parent / "codec.safetensors"
    if told is not None or not beside.is_file():
        return told
    component = stored_component(beside)
    with torch.random.fork_rng():
        codec = registry.codecs.create(component["use"], component["arguments"], where=str(beside))
    load_weights(codec, beside, component)
    codec.eval()
    return latent_statistics(codec)


def _probe(sample_rate: int) -> Tensor:
    """A tone that rises from 50 Hz to 8 kHz in swelling noise, ``(1, 1, T)``."""
    time = torch.arange(round(PROBE_S * sample_rate), dtype=torch.float64) / sample_rate
    rise = math.log(min(8000.0, 0.4 * sample_rate) / 50.0) / PROBE_S
    tone = torch.sin(2 * math.pi * 50.0 * (torch.exp(rise * time) - 1) / rise)
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    swell = 0.5 - 0.5 * torch.cos(2 * math.pi * 2 * time)
    return (0.4 * tone + 0.1 * swell * noise).float()[None, None]
