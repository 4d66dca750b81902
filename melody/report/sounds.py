"""The sounds of a run: a player's source, inside the page or linked, and a picture of each sound's spectrogram."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from melody.data.decoding import decode
from melody.errors import MelodyError
from melody.harness.results import Clip, Results

EMBED_BYTES = 12_000_000
"""Sounds are put into the page if all of them together are no larger."""
TYPES = {".flac": "audio/flac", ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
WINDOW = 2048
BANDS, FRAMES = 128, 480
RANGE_DB = 80.0


@dataclass(frozen=True)
class Sound:
    """A clip as the page shows it; ``problem`` says why it cannot be heard."""

    title: str
    text: str
    source: str = ""
    embedded: bool = False
    picture: str = ""
    facts: str = ""
    problem: str = ""


def inside(path: str) -> bool:
    """Whether a path is relative and stays below its folder.

    >>> inside("clips/a.flac"), inside("../a.flac"), inside("/etc/a.flac"), inside("javascript:a.flac")
    (True, False, False, False)
    """
    parts = PurePosixPath(path.replace("\\", "/"))
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts and ":" not in path


def load_sounds(results: Results, folder: Path, embed_bytes: int = EMBED_BYTES) -> dict[str, list[Sound]]:
    """Sounds by suite; they are embedded only if all of them together are within ``embed_bytes``.

    A sound that is missing or cannot be read is kept, with what is wrong with it.
    """
    sizes = {clip.path: _size(folder, clip) for table in results.tables for clip in table.clips}
    embed = sum(sizes.values()) <= embed_bytes
    return {table.suite: [load_sound(clip, folder, embed) for clip in table.clips] for table in results.tables}


def _size(folder: Path, clip: Clip) -> int:
    path = folder / clip.path
    return path.stat().st_size if inside(clip.path) and path.is_file() else 0


def load_sound(clip: Clip, folder: Path, embed: bool) -> Sound:
    """One sound, embedded or linked; if it cannot be heard, with what is wrong with it."""

    def silent(problem: str) -> Sound:
        return Sound(clip.title, clip.text, problem=problem)

    kind = TYPES.get(PurePosixPath(clip.path).suffix.lower())
    if kind is None:
        return silent(f"{clip.path}: not a sound file that a browser plays (expected one of {', '.join(TYPES)})")
    if not inside(clip.path):
        return silent(f"{clip.path}: outside the folder of the results")
    try:
        content = (folder / clip.path).read_bytes()
        sound = decode(content)
    except FileNotFoundError:
        return silent(f"{clip.path}: the file is missing")
    except OSError as error:
        return silent(f"{clip.path}: the file cannot be read: {error.strerror or error}")
    except MelodyError as error:
        return silent(f"{clip.path}: not readable as a sound: {error}")
    waveform, rate = sound.mono, sound.header.sample_rate
    source = _uri(kind, content) if embed else quote(clip.path)
    facts = (
        f"{len(waveform) / rate:.2f} s at {rate:,} Hz; picture: mel scale, 0 to {rate / 2000:g} kHz, {RANGE_DB:g} dB"
    )
    return Sound(clip.title, clip.text, source, embed, _uri("image/png", picture(waveform, rate)), facts)


def picture(waveform: NDArray[np.float32], sample_rate: int) -> bytes:
    """Spectrogram of ``(T,)`` as PNG: time to the right, mel frequency upwards, 80 dB below the loudest point."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    decibels = mel_spectrogram(waveform, sample_rate)
    buffer = io.BytesIO()
    unsigned: Any = {"Software": None}  # no version of the library in the file
    pixels = colormaps["magma"](decibels / RANGE_DB + 1, bytes=True)
    imsave(buffer, pixels, format="png", origin="lower", metadata=unsigned)
    return buffer.getvalue()


def mel_spectrogram(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """``(T,)`` -> ``(128, frames)`` in dB, from −80 to 0: the short-time spectrum at mel-spaced frequencies."""
    padded = np.pad(waveform, (WINDOW // 2, WINDOW // 2))
    hop = max(64, -(-len(waveform) // FRAMES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop]  # (frames, WINDOW)
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1))  # (frames, WINDOW/2 + 1)
    mel_top = 2595 * np.log10(1 + sample_rate / 2 / 700)  # O'Shaughnessy's formula
    frequencies = 700 * (10 ** (np.linspace(0, mel_top, BANDS) / 2595) - 1)
    places = frequencies / (sample_rate / 2) * (WINDOW // 2)
    low = np.minimum(places.astype(int), WINDOW // 2 - 1)
    weight = places - low
    bands = (magnitude[:, low] * (1 - weight) + magnitude[:, low + 1] * weight).T  # (BANDS, frames)
    loudest = max(float(bands.max()), 1e-8)
    decibels: NDArray[np.float32] = (20 * np.log10(np.maximum(bands / loudest, 10 ** (-RANGE_DB / 20)))).astype(
        np.float32
    )
    return decibels


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
