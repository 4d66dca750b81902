"""The one reader of sound files: all samples of every container, in blocks, or one line that says why not.

What a header promises allocates nothing, and is held against what was decoded. Errors do not name the file; whoever
knows its name does.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from melody.data.containers import CUT_SHORT, EMPTY, READ, Parts, not_read, parts_of
from melody.data.layouts import layout_of
from melody.data.mpeg import SLACK_FRAMES
from melody.data.stretches import Joined
from melody.errors import MelodyError

Source = Path | bytes
"""A file, or the bytes of one."""
BLOCK_SAMPLES = 1 << 20
"""Of all channels together."""
MP3_SLACK = SLACK_FRAMES * 1152
LOWEST_RATE, HIGHEST_RATE = 100, 768_000
"""Ours, in Hz: what is outside is a header's error, and would be resampled to any length."""
MAX_CHANNELS = 64
UNKNOWN = (1 << 63) - 1
"""What libsndfile says of a file whose header does not tell the number of its samples."""


@dataclass(frozen=True)
class Header:
    """What a file is: rate in Hz, channels, frames, format as libsndfile calls it, its speakers by ``layouts``."""

    sample_rate: int
    channels: int
    frames: int
    format: str
    layout: str

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Decoded:
    """A whole file: the mean of its channels ``(T,)``, and the channels ``(C, T)`` if they were asked for."""

    header: Header
    mono: NDArray[np.float32]
    channels: NDArray[np.float32] | None
    peak: float
    """Largest magnitude of a sample of any channel."""


class _Forward(soundfile.SoundFile):
    """Read from begin to end: soundfile seeks after each block, and an MP3 decoder does not come out of that whole."""

    def seekable(self) -> bool:
        return False


def header_of(source: Source) -> Header:
    """What a file is, for which as little is decoded as will do.

    Raises:
        MelodyError: it cannot be read, is empty or cut short, or of an absurd rate or number of channels.
    """
    with _opened(source) as (raw, parts):
        frames = 0
        for sound in _sounds(source, raw, parts):
            header = _header(sound, parts, source)
            frames += _counted(sound) if sound.frames == UNKNOWN else _promised(sound)
    return _checked(header, frames)


def decode(source: Source, *, keep_channels: bool = False) -> Decoded:
    """A whole file, mixed to mono; raises as ``header_of``, and where samples are NaN or infinite."""
    mono, kept, bad, peak = bytearray(), bytearray(), 0, 0.0  # grows in place, where joining blocks holds all twice
    with _opened(source) as (raw, parts):
        header: Header | None = None
        for sound in _sounds(source, raw, parts):
            header = _same(header, _header(sound, parts, source))
            before = len(mono)
            for block in _blocks(sound):
                bad += int(block.size - np.count_nonzero(np.isfinite(block)))
                peak = max(peak, float(np.max(block)), -float(np.min(block)))
                mono += np.asarray(block.mean(axis=1), np.float32).tobytes()
                if keep_channels and block.shape[1] > 1:
                    kept += block.tobytes()
            _check_count(sound, parts, (len(mono) - before) // 4)
    assert header is not None
    waveform = np.frombuffer(mono, np.float32)
    header = _checked(header, len(waveform))
    if bad:
        raise MelodyError(f"{bad:,} of {len(waveform) * header.channels:,} samples are NaN or infinite")
    return Decoded(header, waveform, _channels(waveform, kept, header.channels) if keep_channels else None, peak)


def _channels(mono: NDArray[np.float32], kept: bytearray, count: int) -> NDArray[np.float32]:
    return mono[None] if count == 1 else np.frombuffer(kept, np.float32).reshape(-1, count).T


@contextmanager
def _opened(source: Source) -> Iterator[tuple[BinaryIO, Parts]]:
    """A file and how to read it; whatever the system or libsndfile refuses becomes one line."""
    try:
        with _file(source) as raw:
            yield raw, parts_of(raw, raw.seek(0, os.SEEK_END), _name(source))
    except OSError as error:
        raise MelodyError(f"it cannot be read: {error.strerror or error}") from None
    except soundfile.SoundFileError as error:
        raise MelodyError(f"it cannot be read as audio: {_reason(error)}") from None


def _name(source: Source) -> str:
    return "FILE" if isinstance(source, bytes) else str(source)


def _file(source: Source) -> BinaryIO:
    """Open nothing but a file: a pipe would wait for ever, and a device has no end."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise MelodyError("it is no regular file")
    return open(source, "rb")


def _sounds(source: Source, raw: BinaryIO, parts: Parts) -> Iterator[soundfile.SoundFile]:
    """What there is to decode, one after the other."""
    for stretches in parts.files:
        joined = None if stretches is None else Joined(raw, stretches)
        given: Any = joined or (_named(source) if isinstance(source, Path) else raw)
        raw.seek(0)
        with _Forward(given) as sound:
            yield sound
        if joined is not None and joined.error is not None:
            raise joined.error


def _named(path: Path) -> str | bytes:
    """A file's name as libsndfile takes it: its bytes, which may be no UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _header(sound: soundfile.SoundFile, parts: Parts, source: Source) -> Header:
    if sound.format not in READ:
        raise MelodyError(not_read(f"{sound.format} (its end cannot be checked)", _name(source)))
    if not LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
        raise MelodyError(f"its rate is {sound.samplerate:,} Hz; expected {LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz")
    if sound.channels > MAX_CHANNELS:
        raise MelodyError(f"it has {sound.channels} channels; expected at most {MAX_CHANNELS}")
    if sound.format == "MP3" and parts.samples is None:
        raise MelodyError(not_read("MPEG audio whose frames cannot be counted", _name(source)))
    kind = f"{sound.format} {sound.subtype}"
    return Header(sound.samplerate, sound.channels, 0, kind, layout_of(sound.channels, kind, parts.channel_mask))


def _same(first: Header | None, other: Header) -> Header:
    """Raise ``MelodyError`` if a file changes its rate or channels."""
    if first is not None and (first.sample_rate, first.channels) != (other.sample_rate, other.channels):
        was, now = (f"{header.sample_rate:,} Hz, {header.channels} ch" for header in (first, other))
        raise MelodyError(f"its streams differ: {was}, then {now}")
    return other


def _blocks(sound: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    """All samples ``(frames, channels)``, some at a time."""
    done, most = 0, max(1, BLOCK_SAMPLES // sound.channels)
    while True:
        space = np.full((most, sound.channels), np.nan, np.float32)
        try:
            block: NDArray[np.float32] = sound.read(dtype="float32", out=space)
        except soundfile.SoundFileError:
            raise MelodyError(_where_it_ends(sound, done, space)) from None
        if not len(block):
            return
        done += len(block)
        yield block


def _where_it_ends(sound: soundfile.SoundFile, done: int, space: NDArray[np.float32]) -> str:
    """Why no more can be decoded: what came before the fault stands in the space, which was NaN."""
    done = min(sound.frames, done + int(np.count_nonzero(~np.isnan(space[:, -1]))))  # zeros may follow the last sample
    if done == sound.frames:
        return f"it holds more than its header says: something follows its {done:,} samples"
    return f"it cannot be decoded after {done / sound.samplerate:.3f} s: the file is cut short or damaged"


def _counted(sound: soundfile.SoundFile) -> int:
    return sum(len(block) for block in _blocks(sound))


def _promised(sound: soundfile.SoundFile) -> int:
    """The frames that a header says, of which the last is there."""
    if sound.format == "FLAC" and sound.frames:
        # The others' ends were found by their containers.
        with suppress(soundfile.SoundFileError):
            if sound.seek(sound.frames - 1) == sound.frames - 1 and len(sound.read(1)):
                return int(sound.frames)
        raise MelodyError(CUT_SHORT)
    return int(sound.frames)


def _check_count(sound: soundfile.SoundFile, parts: Parts, count: int) -> None:
    slack = MP3_SLACK if parts.samples is not None else 0
    promised = 0 if sound.frames == UNKNOWN else sound.frames
    if parts.samples is not None and sound.subtype != "MPEG_LAYER_III":
        promised = parts.samples  # libsndfile guesses it
    if count + slack < promised:
        raise MelodyError(f"{count:,} of its {promised:,} samples can be decoded: the file is cut short or damaged")


def _checked(header: Header, frames: int) -> Header:
    if not frames:
        raise MelodyError(EMPTY)
    return Header(header.sample_rate, header.channels, frames, header.format, header.layout)


def _reason(error: Exception) -> str:
    """What libsndfile says, without its prefix and the file's name."""
    line = (str(error).splitlines() or [""])[0].removesuffix(".").rpartition(": ")[2]
    return line or "it is of no kind that libsndfile knows"
