"""The sounds of a run: a player's source, inside the page or linked, and a picture of each sound's spectrogram."""

from __future__ import annotations

import base64
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from melody.data.decoding import Decoded, decode, header_of
from melody.errors import MelodyError
from melody.report.png import few_colours
from melody.reproduce.results import Clip, Results

EMBED_BYTES = 12_000_000
"""Sounds are put into the page if all of them together are no larger."""
SOUND_BYTES = 64_000_000
"""Of one sound; a larger one is left out and told."""
SOUND_S = 3600.0
TYPES = {".flac": "audio/flac", ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
WINDOW = 2048
BANDS, FRAMES = 128, 480
RANGE_DB = 80.0


@dataclass(frozen=True)
class Sound:
    """A clip as the page shows it; ``problem`` says why it cannot be heard."""

    title: str
    text: str
    path: str = ""
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
    embed = sum(_size(folder, clip) for table in results.tables for clip in table.clips) <= embed_bytes
    return {table.suite: [load_sound(clip, folder, embed) for clip in table.clips] for table in results.tables}


def _size(folder: Path, clip: Clip) -> int:
    try:
        return os.stat(folder / clip.path).st_size if inside(clip.path) else 0
    except (OSError, ValueError):
        return 0


def read_sound(folder: Path, path: str, *, links: bool = False) -> tuple[bytes, Decoded]:
    """A sound's bytes, and what they hold; nothing is opened but a regular file of the folder, of a bounded size.

    Args:
        links: whether the folder is the user's own, in which links may lead out of it.
    Raises:
        MelodyError: what is wrong with it.
    """
    if not inside(path):
        raise MelodyError("outside the folder of the results")
    try:
        whole = (folder / path).resolve(strict=True)
        if whole.is_dir():
            raise MelodyError("not a regular file")
        if not links and not whole.is_relative_to(folder.resolve()):
            raise MelodyError("a link that leads out of the folder of the results")
        content = _regular(whole)
    except FileNotFoundError:
        raise MelodyError("the file is missing") from None
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a loop of links
        raise MelodyError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        if header_of(content).duration_s > SOUND_S:
            raise MelodyError(f"it lasts more than {SOUND_S:,.0f} s")
        return content, decode(content)
    except MelodyError as error:
        raise MelodyError(f"not readable as a sound: {error}") from None


def _regular(path: Path) -> bytes:
    """The bytes of a regular file; a pipe is not waited for, and a device not read."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MelodyError("not a regular file")
        content = file.read(SOUND_BYTES + 1)
    if len(content) > SOUND_BYTES:
        raise MelodyError(f"larger than {SOUND_BYTES / 1e6:g} MB")
    return content


def load_sound(clip: Clip, folder: Path, embed: bool, *, links: bool = False) -> Sound:
    """One sound, embedded or linked; if it cannot be heard, with what is wrong with it. ``links`` as ``read_sound``."""

    def silent(problem: str) -> Sound:
        return Sound(clip.title, clip.text, clip.path, problem=problem)

    kind = TYPES.get(PurePosixPath(clip.path).suffix.lower())
    if kind is None:
        return silent(f"{clip.path}: not a sound file that a browser plays (expected one of {', '.join(TYPES)})")
    try:
        content, sound = read_sound(folder, clip.path, links=links)
    except MelodyError as error:
        return silent(f"{clip.path}: {error}")
    waveform, rate = sound.mono, sound.header.sample_rate
    source = _uri(kind, content) if embed else quote(clip.path)
    facts = (
        f"{len(waveform) / rate:.2f} s at {rate:,} Hz; picture: mel scale, 0 to {rate / 2000:g} kHz, {RANGE_DB:g} dB"
    )
    shown = _uri("image/png", picture(waveform, rate))
    return Sound(clip.title, clip.text, clip.path, source, embed, shown, facts)


def picture(waveform: NDArray[np.float32], sample_rate: int) -> bytes:
    """Spectrogram of ``(T,)`` as PNG: time to the right, mel frequency upwards, 80 dB below the loudest point."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    decibels = mel_spectrogram(waveform, sample_rate)
    buffer = io.BytesIO()
    unsigned: Any = {"Software": None}  # no version of the library in the file
    pixels = colormaps["magma"](decibels / RANGE_DB + 1, bytes=True)
    imsave(buffer, pixels, format="png", origin="lower", metadata=unsigned)
    return few_colours(buffer.getvalue())


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
