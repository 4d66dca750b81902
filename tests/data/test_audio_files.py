from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody.artifacts import files
from melody.data import decoding
from melody.data.audio import as_mono, check_audio, check_output, read_audio, write_audio
from melody.errors import MelodyError


def tone(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def test_stereo_is_averaged_and_resampled_along_time(tmp_path: Path) -> None:
    left, right = tone(440, 48_000), tone(1000, 48_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    waveform = read_audio(tmp_path / "stereo.wav", 24_000)
    expected = (tone(440, 24_000) + tone(1000, 24_000)) / 2
    assert waveform.shape == (12_000,)
    assert waveform.dtype == torch.float32
    np.testing.assert_allclose(waveform[500:-500].numpy(), expected[500:-500], atol=1e-3)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".WAV"])
def test_what_is_written_is_read(tmp_path: Path, extension: str) -> None:
    waveform = torch.from_numpy(tone(300, 24_000)).float()
    path = tmp_path / f"música 音{extension}"
    write_audio(path, waveform, 24_000)
    assert soundfile.info(path).subtype == "PCM_16"
    torch.testing.assert_close(read_audio(path, 24_000), waveform, atol=2**-15, rtol=0)
    assert check_audio(path, "it").duration_s == 0.5
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", torch.tensor([2.0, -2.0, 0.0]), 24_000)
    torch.testing.assert_close(
        read_audio(tmp_path / "a.wav", 24_000), torch.tensor([1.0, -1.0, 0.0]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("extension", [".mp3", ".ogg", ".flac"])
def test_long_files_are_read_as_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str) -> None:
    path = tmp_path / f"a{extension}"
    soundfile.write(path, tone(440, 24_000, seconds=4.0), 24_000)
    there, _ = soundfile.read(path, dtype="float32")
    assert len(there) == 96_000
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 10_000)
    torch.testing.assert_close(read_audio(path, 24_000), torch.from_numpy(there), atol=1e-5, rtol=0)


def test_a_cut_file_is_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "theme.wav"
    write_audio(path, torch.from_numpy(tone(440, 24_000)).float(), 24_000)
    path.write_bytes(path.read_bytes()[:5_000])
    for prompt in (path, str(path)):
        with pytest.raises(MelodyError, match=r"cannot read audio .*theme\.wav: it ends before its header says"):
            as_mono(prompt, 24_000, "prompt audio")


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "zero.wav").write_bytes(b"")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 24_000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 24_000, subtype="FLOAT")
    (tmp_path / "folder.wav").mkdir()
    reasons = {
        "text.wav": "cannot read audio",
        "zero.wav": "cannot read audio",
        "empty.wav": "0 samples",
        "nan.wav": "NaN",
        "folder.wav": "is a folder",
        "txt.wav": "no such file; did you mean 'text.wav'",
    }
    for name, reason in reasons.items():
        with pytest.raises(MelodyError, match=reason) as raised:
            read_audio(tmp_path / name, 24_000)
        assert str(tmp_path / name) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_bad_output_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    waveform = torch.zeros(10)
    with pytest.raises(MelodyError, match=r"unknown extension '.wave'; did you mean '.wav'"):
        write_audio(tmp_path / "a.wave", waveform, 24_000)
    with pytest.raises(MelodyError, match="is not a folder"):
        write_audio(tmp_path / "file" / "a.wav", waveform, 24_000)
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(MelodyError, match="it is a folder"):
        check_output(tmp_path / "x.wav")
    with pytest.raises(MelodyError, match="NaN"):
        write_audio(tmp_path / "a.wav", torch.tensor([torch.nan]), 24_000)
    with pytest.raises(MelodyError, match=r"expected samples of shape \(T,\), got \(0,\)"):
        write_audio(tmp_path / "a.wav", torch.zeros(0), 24_000)
    with pytest.raises(MelodyError, match=r"got \(1, 10\)"):
        write_audio(tmp_path / "a.wav", waveform[None], 24_000)
    assert not (tmp_path / "a.wav").exists()


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MelodyError, match="is read-only"):
        check_output(tmp_path / "a.wav")


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "a.wav", torch.zeros(10), 24_000)
    before = (tmp_path / "a.wav").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MelodyError, match=r"cannot write .*a\.wav: No space left on device"):
        write_audio(tmp_path / "a.wav", torch.ones(10), 24_000)
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
