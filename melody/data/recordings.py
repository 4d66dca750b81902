"""A file's sound as it is to be measured: at its own rate, with its own levels, and refused if it is not whole.

Unlike ``read_audio``, which prompts and training use, nothing is clipped: samples beyond ±1 are measured as they are,
and ``peak`` tells them. Errors do not name the file; whoever lists files does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from melody.data.audio import mono_blocks, open_sound, reason_of, resampled
from melody.errors import MelodyError

MP3_SLACK = 2 * 1152
"""Frames by which an MP3 may be shorter than its header says: the encoder's padding, at most two of its blocks."""
CHUNKS = {
    "WAV": (b"RIFF", "<", b"data"),
    "WAVEX": (b"RIFF", "<", b"data"),
    "AIFF": (b"FORM", ">", b"SSND"),
}
"""Begin of a file, order of its bytes, and chunk of its samples, by libsndfile's name of the format."""
UNKNOWN_SIZES = (0, 0xFFFFFFFF)
"""What a writer leaves in a RIFF header that it could not go back to."""
OGG_HEADER, OGG_LAST = 27, 4
"""Bytes of a page's header before its table of segments, and the flag of a stream's last page (RFC 3533, section 6)."""
CUT_SHORT = "it ends before its header says: the file is cut short"


@dataclass(frozen=True)
class Facts:
    """What came in: rate in Hz, channels, frames, largest magnitude of the mono mix, format as libsndfile calls it."""

    sample_rate: int
    channels: int
    frames: int
    peak: float
    format: str

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Recording:
    """Mono float32 ``(T,)`` at the file's own rate, channels averaged, beyond ±1 where the file is."""

    waveform: Tensor
    facts: Facts

    def at(self, sample_rate: int | None) -> Tensor:
        """``(T,)`` at a rate, or at its own; a resampler's overshoot beyond the file's own range is clipped."""
        if sample_rate is None or sample_rate == self.facts.sample_rate:
            return self.waveform
        limit = max(1.0, self.facts.peak)
        return resampled(self.waveform, self.facts.sample_rate, sample_rate).clamp_(-limit, limit)


def read_recording(path: Path) -> Recording:
    """Read a whole file.

    Raises:
        MelodyError: it cannot be read, is empty or cut short, or holds NaN or infinity; without the file's name.
    """
    try:
        with open_sound(path) as file:
            _check_frames(file, path)
            samples = bytearray()  # grows in place, where joining a list of blocks holds an hour twice
            for block in mono_blocks(file, file.frames):
                samples += block.astype(np.float32, copy=False).tobytes()
            waveform = np.frombuffer(samples, np.float32)
            rate, channels, expected = file.samplerate, file.channels, file.frames
            kind = f"{file.format} {file.subtype}"
            slack = MP3_SLACK if file.format in ("MP3", "MPEG") else 0
    except (OSError, soundfile.SoundFileError) as error:
        raise MelodyError(_unreadable(error)) from None
    if len(waveform) < max(1, expected - slack):
        raise MelodyError(CUT_SHORT)
    bad = len(waveform) - int(np.isfinite(waveform).sum())
    if bad:
        raise MelodyError(f"{bad:,} of {len(waveform):,} samples are NaN or infinite")
    peak = float(max(waveform.max(), -waveform.min()))
    return Recording(torch.from_numpy(waveform), Facts(rate, channels, len(waveform), peak, kind))


def check_header(path: Path) -> None:
    """Raise ``MelodyError`` for a file that is seen to be bad without decoding it: no sound, empty or cut short."""
    try:
        with open_sound(path) as file:
            _check_frames(file, path)
    except (OSError, soundfile.SoundFileError) as error:
        raise MelodyError(_unreadable(error)) from None


def _check_frames(file: soundfile.SoundFile, path: Path) -> None:
    if not file.frames:
        raise MelodyError("it is empty: 0 samples, or cut short before the first")
    if file.format == "OGG":
        is_cut = _ogg_is_cut(path)
    else:
        is_cut = file.format in CHUNKS and _chunk_is_cut(path, *CHUNKS[file.format])
    if is_cut:
        raise MelodyError(CUT_SHORT)


def _chunk_is_cut(path: Path, form: bytes, order: str, samples: bytes) -> bool:
    """Whether the chunk of samples ends behind the file's end, which libsndfile mends in silence."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != form:
            return False
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack(f"{order}4sI", header)
            if name == samples:
                return length not in UNKNOWN_SIZES and file.tell() + length > size
            file.seek(length + length % 2, 1)
    return False


def _ogg_is_cut(path: Path) -> bool:
    """Whether the last page is not whole, or not marked as the last: libsndfile takes what pages there are for all."""
    size, is_last = path.stat().st_size, False
    with path.open("rb") as file:
        while len(header := file.read(OGG_HEADER)) == OGG_HEADER and header.startswith(b"OggS"):
            end = file.tell() + header[-1] + sum(file.read(header[-1]))
            if end > size:
                return True
            is_last = bool(header[5] & OGG_LAST)
            file.seek(end)
    return not is_last


def _unreadable(error: Exception) -> str:
    reason = reason_of(error)
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {reason}"
    return f"it cannot be read as audio: {reason}"
