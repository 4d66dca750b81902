"""Audio: mono float32 in, from files or from memory; 16-bit WAV or FLAC out."""

from __future__ import annotations

import io
import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from melody.artifacts.files import write_bytes
from melody.data.decoding import HIGHEST_RATE, LOWEST_RATE, MAX_CHANNELS, Header, Source, decode, header_of
from melody.errors import MelodyError, did_you_mean

OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
INT16_SCALE = 32768

AudioInput = str | Path | tuple[Any, int]
"""A file, or samples with their rate in Hz: ``(T,)`` or ``(C, T)`` in [-1, 1], a tensor or an array, as from
``torchaudio.load``."""


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """Read a file as mono float32 ``(T,)`` in [-1, 1]: channels averaged, then resampled along time.

    Raises:
        MelodyError: the file is missing, unreadable, empty or cut short, or holds NaN or infinity.
    """
    path = Path(path)
    _check_is_file(path)
    return decode_audio(path, str(path), sample_rate)


def decode_audio(source: Source, name: str, sample_rate: int) -> Tensor:
    """``read_audio`` of a file or of its bytes, called ``name`` in errors."""
    try:
        sound = decode(source)
    except MelodyError as error:
        raise MelodyError(f"cannot read audio {name}: {error}") from None
    return resampled(torch.from_numpy(sound.mono), sound.header.sample_rate, sample_rate).clamp(-1, 1)


def as_mono(audio: AudioInput, sample_rate: int, what: str) -> Tensor:
    """Audio from a file or from memory as mono float32 ``(T,)`` in [-1, 1] at ``sample_rate``: channels averaged.

    Args:
        what: what the audio is, for the message, as in ``the prompt audio``.
    Raises:
        MelodyError: a file as ``read_audio`` says; another shape, integers, no samples, NaN or infinity, a rate that
            is no whole number, or that no file may have.
    """
    if isinstance(audio, str | Path):
        return read_audio(audio, sample_rate)
    native_rate: Any = audio[1] if isinstance(audio, tuple) and len(audio) == 2 else None
    if not isinstance(native_rate, numbers.Integral) or not int(native_rate) > 0:
        raise MelodyError(f"{what}: expected a file, or (samples, rate in whole Hz), got {_brief(audio)}")
    if not LOWEST_RATE <= int(native_rate) <= HIGHEST_RATE:
        raise MelodyError(f"{what}: its rate is {native_rate} Hz; expected {LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz")
    waveform = _samples(audio[0], what)
    _check_samples(waveform, what)
    mono = waveform.float() if waveform.ndim == 1 else waveform.float().mean(dim=0)
    return resampled(mono, int(native_rate), sample_rate).clamp(-1, 1)


def _samples(given: Any, what: str) -> Tensor:
    try:
        # torch takes no array that is read backwards.
        return torch.as_tensor(np.ascontiguousarray(given) if isinstance(given, np.ndarray) else given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise MelodyError(f"{what} is no array of samples: {str(error).splitlines()[0]}") from None


def _check_samples(waveform: Tensor, what: str) -> None:
    shape = tuple(waveform.shape)
    # More rows than channels can be, and fewer columns than rows: the axes are the wrong way round.
    if waveform.ndim not in (1, 2) or (waveform.ndim == 2 and shape[0] > max(MAX_CHANNELS, shape[1])):
        raise MelodyError(f"{what} has shape {shape}: expected (samples,) or (channels, samples)")
    if not waveform.numel():
        raise MelodyError(f"{what} is empty: shape {shape}")
    if not waveform.is_floating_point():
        raise MelodyError(f"{what} holds {waveform.dtype}: expected floating-point samples in [-1, 1]")
    if not torch.isfinite(waveform).all():
        raise MelodyError(f"{what} holds NaN or infinity")


def _brief(audio: Any) -> str:
    if isinstance(audio, tuple) and len(audio) == 2:
        return f"({type(audio[0]).__name__}, {audio[1]!r})"
    return f"a {type(audio).__name__}"


def check_audio(source: Source, name: str) -> Header:
    """What a file is, or its bytes; raises ``MelodyError`` as ``read_audio`` does, without decoding the whole of it."""
    if isinstance(source, Path):
        _check_is_file(source)
    try:
        return header_of(source)
    except MelodyError as error:
        raise MelodyError(f"cannot read audio {name}: {error}") from None


def check_output(path: str | Path) -> None:
    """Raise ``MelodyError`` if ``write_audio`` could not write to ``path``: to be asked before hours of work."""
    path = Path(path)
    if path.suffix.lower() not in OUTPUT_FORMATS:
        hint = did_you_mean(path.suffix.lower(), OUTPUT_FORMATS)
        raise MelodyError(f"cannot write audio {path}: unknown extension {path.suffix!r}{hint}")
    if path.is_dir():
        raise MelodyError(f"cannot write audio {path}: it is a folder")
    folder = _nearest_existing(path.absolute().parent)
    if not folder.is_dir():
        raise MelodyError(f"cannot write audio {path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise MelodyError(f"cannot write audio {path}: folder {folder} is read-only")


def write_audio(path: str | Path, waveform: Tensor, sample_rate: int) -> None:
    """Write mono ``(T,)`` as 16-bit WAV or FLAC, by extension; whole or not at all. Samples beyond ±1 are clipped.

    Raises:
        MelodyError: another shape, no samples, NaN, unknown extension, read-only folder, full disk.
    """
    path = Path(path)
    check_output(path)
    if waveform.ndim != 1 or not len(waveform):
        raise MelodyError(f"cannot write audio {path}: expected samples of shape (T,), got {tuple(waveform.shape)}")
    if not torch.isfinite(waveform).all():
        raise MelodyError(f"cannot write audio {path}: the samples hold NaN or infinity")
    buffer = io.BytesIO()
    samples = to_int16(waveform.detach().cpu().numpy())
    soundfile.write(buffer, samples, sample_rate, format=OUTPUT_FORMATS[path.suffix.lower()], subtype="PCM_16")
    write_bytes(path, buffer.getvalue())


def to_int16(waveform: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Samples in [-1, 1] to 16 bits; what is beyond is clipped."""
    samples: NDArray[np.int16] = np.clip(np.round(waveform * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1).astype(
        np.int16
    )
    return samples


def from_int16(samples: NDArray[np.int16]) -> Tensor:
    """16-bit samples to float32 in [-1, 1)."""
    return torch.from_numpy(samples.astype(np.float32)) / INT16_SCALE


def resampled(waveform: Tensor, native_rate: int, sample_rate: int) -> Tensor:
    """``(T,)`` at another sample rate, one sample at least; the same tensor if the rates are equal."""
    if native_rate == sample_rate:
        return waveform
    samples = soxr.resample(waveform.numpy(), native_rate, sample_rate, quality="HQ")
    # Shorter than a sample of the new rate: what there is, rather than nothing.
    return torch.from_numpy(samples) if len(samples) or not len(waveform) else waveform[:1]


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        raise MelodyError(f"cannot read audio {path}: it is a folder")
    if path.is_file():
        return
    if path.exists():
        raise MelodyError(f"cannot read audio {path}: it is no regular file")
    siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    nearest = did_you_mean(path.name, siblings) if 0 < len(siblings) <= 8 else ""
    raise MelodyError(f"cannot read audio {path}: no such file{nearest}")


def _nearest_existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
