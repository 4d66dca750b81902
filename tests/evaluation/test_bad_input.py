"""Input that is bad, or only odd: a clear line by file and exit code 2, or listed and counted with --skip-bad."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import melody
from melody.cli import main
from melody.data.recordings import read_recording
from melody.errors import MelodyError

RATE = 8_000
Spoil = Callable[[Path, np.ndarray], None]


@pytest.fixture
def run(folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """``melody evaluate`` in this process: (exit code, stdout, stderr, JSON or None)."""
    monkeypatch.setenv("COLUMNS", "250")

    def evaluate(*arguments: str) -> tuple[int, str, str, dict[str, Any] | None]:
        out = Path("out.json")
        out.unlink(missing_ok=True)
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *arguments, "--json", str(out)])
        printed = capsys.readouterr()
        content = json.loads(out.read_text()) if out.exists() else None
        return int(caught.value.code or 0), printed.out, printed.err, content

    return evaluate


def _write(path: Path, samples: np.ndarray, rate: int = RATE, **how: Any) -> None:
    soundfile.write(path, samples, rate, **how)


def _cut(name: str, **how: Any) -> Spoil:
    def spoil(folder: Path, samples: np.ndarray) -> None:
        _write(folder / name, samples, **how)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def _cut_long_ogg(folder: Path, samples: np.ndarray) -> None:
    """Of many pages, so that whole ones are left."""
    _cut("bad.ogg")(folder, np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32) / 10)


def _with(value: float) -> Spoil:
    def spoil(folder: Path, samples: np.ndarray) -> None:
        spoilt = samples.copy()
        spoilt[100] = value
        _write(folder / "bad.wav", spoilt, subtype="FLOAT")

    return spoil


def _folder_link(folder: Path, samples: np.ndarray) -> None:
    (folder / "bad").symlink_to(folder)


def _with_rate(rate: int) -> Spoil:
    def spoil(folder: Path, samples: np.ndarray) -> None:
        _write(folder / "bad.wav", samples)
        content = (folder / "bad.wav").read_bytes()
        (folder / "bad.wav").write_bytes(content[:24] + struct.pack("<I", rate) + content[28:])

    return spoil


def _bytes(name: str, content: bytes) -> Spoil:
    return lambda folder, samples: (folder / name).write_bytes(content) and None


def _text(folder: Path, samples: np.ndarray) -> None:
    (folder / "bad.wav").write_text("this is no sound, whatever its name says\n" * 20)


def _not_utf8(folder: Path, samples: np.ndarray) -> None:
    _write(folder / "x.wav", samples)
    os.rename(os.fsencode(folder / "x.wav"), os.fsencode(folder) + b"/bad\xff.wav")


AAC = b"\0\0\0\x1cftypM4A "
BAD: dict[str, tuple[Spoil, str]] = {
    "truncated wav": (_cut("bad.wav"), "cut short"),
    "truncated aiff": (_cut("bad.aiff"), "cut short"),
    "truncated flac": (_cut("bad.flac"), "cut short"),
    "truncated au": (_cut("bad.au"), "cut short"),
    "truncated w64": (_cut("bad.w64"), "cut short"),
    "AAC": (_bytes("bad.m4a", AAC), "ffmpeg -i generated/bad.m4a generated/bad.wav"),
    "AAC that is called MP3": (_bytes("bad.mp3", AAC), "ffmpeg -i generated/bad.mp3 generated/bad.wav"),
    "a rate of 1 Hz": (_with_rate(1), "its rate is 1 Hz"),
    "a rate of 2 GHz": (_with_rate(2_000_000_000), "its rate is 2,000,000,000 Hz"),
    "a pipe": (lambda folder, samples: os.mkfifo(folder / "bad.wav"), "no regular file"),
    "truncated ogg": (_cut("bad.ogg"), "cut short"),
    "truncated ogg of many pages": (_cut_long_ogg, "cut short"),
    "truncated mp3": (_cut("bad.mp3"), "cut short"),
    "empty": (lambda folder, samples: _write(folder / "bad.wav", samples[:0]), "empty: 0 samples"),
    "no bytes": (lambda folder, samples: (folder / "bad.wav").write_bytes(b""), "cannot be read as audio"),
    "NaN": (_with(np.nan), "1 of 8,000 samples are NaN or infinite"),
    "infinity": (_with(-np.inf), "1 of 8,000 samples are NaN or infinite"),
    "text": (_text, "cannot be read as audio"),
    "link in a circle": (_folder_link, "link to a folder that it lies in"),
    "link to nothing": (
        lambda folder, samples: (folder / "bad.wav").symlink_to(folder / "gone.wav"),
        "link to nothing",
    ),
    "link to itself": (
        lambda folder, samples: (folder / "bad.wav").symlink_to(folder / "bad.wav"),
        "link to nothing",
    ),
    "one sample": (lambda folder, samples: _write(folder / "bad.wav", samples[:1]), "expected at least 0.4 s"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_or_left_out_and_counted(run: Any, folders: Path, samples: Any, case: str) -> None:
    spoil, reason = BAD[case]
    spoil(folders / "generated", samples(9))
    code, _, error, content = run("generated", "-m", "loudness")
    assert code == 2
    assert content is None
    lines = [line for line in error.splitlines() if "generated/bad" in line and reason in line]
    assert lines, error
    assert "--skip-bad" in error.splitlines()[-1]
    code, out, _, content = run("generated", "-m", "loudness", "--skip-bad")
    assert code == 0
    (score,) = content["scores"]
    assert (score["scored"], score["expected"]) == (6, 7)
    (skipped,) = content["skipped"]
    assert reason in skipped["reason"]
    assert "Left out: 1" in out


def _eight_bit(folder: Path, samples: np.ndarray) -> None:
    _write(folder / "odd.wav", samples, subtype="PCM_U8")


def _surround(folder: Path, samples: np.ndarray) -> None:
    _write(folder / "odd.wav", np.stack([samples * share for share in (1, 0.5, 0.2, 0, 0.1, 0.1)], axis=1))


def _lying(folder: Path, samples: np.ndarray) -> None:
    _write(folder / "odd.flac", samples)
    (folder / "odd.flac").rename(folder / "odd.wav")


def _streamed(folder: Path, samples: np.ndarray) -> None:
    """As a writer leaves it that could not go back to its header."""
    _write(folder / "odd.wav", samples)
    content = bytearray((folder / "odd.wav").read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (folder / "odd.wav").write_bytes(bytes(content))


def _linked(folder: Path, samples: np.ndarray) -> None:
    _write(folder.parent / "blob", samples, format="WAV")
    (folder / "odd.wav").symlink_to(folder.parent / "blob")


def _linked_folder(folder: Path, samples: np.ndarray) -> None:
    (folder.parent / "disk").mkdir()
    _write(folder.parent / "disk" / "odd.wav", samples)
    (folder / "linked").symlink_to(folder.parent / "disk")


ODD: dict[str, tuple[Spoil, str]] = {
    "link": (_linked, "WAV PCM_16"),
    "link to a folder": (_linked_folder, "WAV PCM_16"),
    "au": (lambda folder, samples: _write(folder / "odd.au", samples), "AU PCM_16"),
    "oga": (lambda folder, samples: _write(folder / "odd.oga", samples, format="OGG"), "OGG VORBIS"),
    "caf": (lambda folder, samples: _write(folder / "odd.caf", samples), "CAF PCM_16"),
    "w64": (lambda folder, samples: _write(folder / "odd.w64", samples), "W64 PCM_16"),
    "rf64": (lambda folder, samples: _write(folder / "odd.rf64", samples), "RF64 PCM_16"),
    "8-bit": (_eight_bit, "WAV PCM_U8, 8,000 Hz, 1 ch"),
    "5.1": (_surround, "WAV PCM_16, 8,000 Hz, 6 ch"),
    "192 kHz": (lambda folder, samples: _write(folder / "odd.wav", np.repeat(samples, 24), 192_000), "192,000 Hz"),
    "ogg": (lambda folder, samples: _write(folder / "odd.ogg", samples), "OGG VORBIS"),
    "mp3": (lambda folder, samples: _write(folder / "odd.mp3", samples), "MPEG_LAYER_III"),
    "extension that lies": (_lying, "FLAC PCM_16"),
    "streamed wav": (_streamed, "WAV PCM_16"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_files_are_scored_and_told(run: Any, folders: Path, samples: Any, case: str) -> None:
    spoil, told = ODD[case]
    spoil(folders / "generated", samples(9))
    code, _, error, content = run("generated", "-m", "peak", "-m", "loudness")
    assert code == 0, error
    assert [score["scored"] for score in content["scores"]] == [7, 7]
    assert any(told in name for name in content["generated"]["formats"])
    if case not in ("mp3", "ogg", "oga"):
        (level,) = (value for name, value in content["scores"][0]["clips"].items() if name.endswith("odd"))
        assert level == pytest.approx(0.3, rel=0.2)


def test_a_file_is_heard_with_its_channels_at_its_own_rate(run: Any, folders: Path) -> None:
    """48 kHz sound above 12 kHz, both channels, one against the other: a mono mix at 24 kHz hears nothing of it."""
    time = np.arange(2 * 48_000) / 48_000
    high = (0.5 * np.sin(2 * np.pi * 15_000 * time)).astype(np.float32)
    for name, channels in {
        "one": [high],
        "two": [high, high],
        "against": [high, -high],
        "half": [high, 0 * high],
    }.items():
        _write(folders / "generated" / f"{name}.wav", np.stack(channels, axis=1), 48_000, subtype="FLOAT")
    code, _, error, content = run(
        "generated", "-m", "loudness", "-m", "silence-rate", "-m", "peak", "-m", "clipping-rate"
    )
    assert code == 0, error
    loudness, silence, peak, _ = (score["clips"] for score in content["scores"])
    assert loudness["one"] == pytest.approx(-3.01 - 6.02 + 3.36, abs=0.1)  # the shelf's gain above 10 kHz
    assert loudness["two"] == loudness["against"] == pytest.approx(loudness["one"] + 3.01, abs=0.01)
    assert loudness["half"] == pytest.approx(loudness["one"], abs=0.01)
    assert {silence[name] for name in ("one", "two", "against", "half")} == {0}
    assert peak["against"] == pytest.approx(0.5, abs=1e-3)
    assert all(score["sample_rate"] is None and score["version"] == "2" for score in content["scores"])


def test_files_that_are_no_sounds_are_told_by_kind(run: Any, folders: Path) -> None:
    for name in ("notes.txt", "cover.jpg", "more.TXT", "README"):
        (folders / "generated" / name).write_bytes(b"x")
    code, out, _, content = run("generated", "-m", "peak", "--html", "page.html")
    assert code == 0
    told = (
        "Passed over beside the generated clips, as no sounds by their extension: 1 without extension, 1 .jpg, 2 .txt"
    )
    assert told in " ".join(out.split())
    assert told in Path("page.html").read_text(encoding="utf-8")
    assert content["generated"]["others"] == 4


def test_samples_beyond_full_scale_are_measured_as_they_are_and_told(run: Any, folders: Path, samples: Any) -> None:
    _write(folders / "generated" / "loud.wav", 6 * samples(0), subtype="FLOAT")
    code, out, _, content = run("generated", "-m", "peak", "-m", "silence-rate")
    assert code == 0
    assert content["scores"][0]["clips"]["loud"] > 1.5
    assert content["generated"]["beyond_full_scale"] == 1
    assert "beyond ±1" in out


def test_an_hour_is_one_clip(run: Any, folders: Path) -> None:
    hour = np.zeros(3600 * 1_000, np.int16)
    hour[::1_000] = 16_384
    _write(folders / "generated" / "hour.flac", hour, 1_000)
    code, _, error, content = run("generated", "-m", "peak")
    assert code == 0, error
    assert content["generated"]["seconds"] == pytest.approx(3606)
    assert content["scores"][0]["clips"]["hour"] == 0.5


def test_names_in_folders_with_spaces_and_letters_of_the_world(run: Any, folders: Path, samples: Any) -> None:
    for name in ("a/same.wav", "b/same.wav", "b/same.flac", "b/音楽 мелодия.wav", "b/e\u0301tude.wav"):
        path = folders / "generated" / name
        path.parent.mkdir(exist_ok=True)
        _write(path, samples(3))
    code, _, error, content = run("generated", "-m", "peak")
    assert code == 0, error
    names = set(content["scores"][0]["clips"])
    assert {"a/same", "b/same.wav", "b/same.flac", "b/音楽 мелодия", "b/étude"} <= names


def test_a_name_that_is_not_utf_8_is_a_fault(run: Any, folders: Path, samples: Any) -> None:
    try:
        _not_utf8(folders / "generated", samples(3))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    code, _, error, _ = run("generated", "-m", "peak")
    assert code == 2
    assert "not UTF-8" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission_are_faults(run: Any, folders: Path) -> None:
    (folders / "generated" / "clip 0.wav").chmod(0)
    (folders / "generated" / "sub").chmod(0)
    try:
        code, _, error, _ = run("generated", "-m", "peak")
    finally:
        (folders / "generated" / "sub").chmod(0o755)
    assert code == 2
    assert error.count("ermission denied") >= 2


def test_what_the_system_refuses_is_told_by_the_system(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above for root too, who may read everything."""

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(MelodyError, match="it cannot be read: Permission denied"):
        read_recording(folders / "generated" / "clip 0.wav")


CAPTIONS = {
    "missing": ([0, 1, 2, 3, 4], "has no row for it", 5),
    "extra": ([0, 1, 2, 3, 4, 5, 6], "there is no such clip", 6),
    "doubled": ([0, 1, 2, 3, 4, 5, 5], "lists it twice: lines 7 and 8", 5),
}


@pytest.mark.parametrize("case", CAPTIONS)
def test_metadata_that_does_not_fit(run: Any, folders: Path, case: str) -> None:
    places, reason, scored = CAPTIONS[case]
    lines = ["file_name,text", *(f"{'sub/' if n % 2 else ''}clip {n}.wav,tone {n}" for n in places)]
    Path("captions.csv").write_text("\n".join(lines))
    code, _, error, _ = run("generated", "-m", "mcc", "--captions", "captions.csv")
    assert code == 2
    assert reason in error
    code, _, _, content = run("generated", "-m", "mcc", "--captions", "captions.csv", "--skip-bad")
    assert code == 0
    assert content["scores"][0]["scored"] == scored
    assert content["scores"][0]["expected"] == 6
    assert reason in content["skipped"][0]["reason"]


def test_a_reference_smaller_than_its_embedding(run: Any, folders: Path) -> None:
    code, _, error, _ = run("generated", "--reference", "reference", "-m", "fad")
    assert code == 2
    assert "6 windows for 48 dimensions of mel-stats" in error
    code, out, _, content = run("generated", "--reference", "reference", "-m", "fad", "--skip-bad")
    assert code == 0
    assert "singular covariance" in content["scores"][0]["warnings"][0]
    assert "reference is too small" in content["skipped"][0]["reason"]
    assert "singular" in out


def test_pairs_without_a_partner(run: Any, folders: Path) -> None:
    (folders / "reference" / "clip 0.wav").rename(folders / "reference" / "other.wav")
    code, _, error, _ = run("generated", "--reference", "reference", "-m", "si-snr")
    assert code == 2
    assert "no 'clip 0' in reference" in error
    assert "no 'other' in generated" in error
    code, _, _, content = run("generated", "--reference", "reference", "-m", "si-snr", "--skip-bad")
    assert code == 0
    assert content["scores"][0]["scored"] == 5


@pytest.mark.parametrize(
    ("argument", "message"),
    [("nowhere", "no such folder"), ("generated/clip 0.wav", "it is a file"), ("bare", "holds no audio")],
)
def test_no_folder_of_sounds(run: Any, folders: Path, argument: str, message: str) -> None:
    (folders / "bare").mkdir()
    (folders / "bare" / "notes.txt").write_text("no sound")
    code, _, error, _ = run(argument)
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_pages_that_cannot_be_written_are_told_first(run: Any, folders: Path) -> None:
    code, _, error, _ = run("generated", "--html", "nowhere/page.html")
    assert code == 2
    assert "there is no folder" in error
    assert not Path("cache").exists()


def test_a_folder_of_which_nothing_can_be_read_is_refused_even_so(run: Any, folders: Path) -> None:
    (folders / "empty").mkdir()
    (folders / "empty" / "a.wav").write_bytes(b"")
    code, _, error, content = run("empty", "-m", "peak", "--skip-bad")
    assert (code, content) == (2, None)
    assert "no clip of empty could be read" in error
    code, _, error, _ = run("generated", "-r", "empty", "-m", "fad", "--skip-bad")
    assert code == 2
    assert "no clip of empty could be read" in error


def test_captions_with_commas_outside_of_quotes_are_not_cut(run: Any, folders: Path) -> None:
    Path("captions.csv").write_text("file_name,text\nclip 0.wav,slow, sad piano\n")
    code, _, error, _ = run("generated", "-m", "mcc", "--captions", "captions.csv", "--skip-bad")
    assert code == 2
    assert "captions.csv, line 2: got 3 cells; the header has 2" in error


def test_a_negative_seed_is_refused(run: Any, folders: Path) -> None:
    code, _, error, _ = run("generated", "-m", "peak", "--seed", "-1")
    assert code == 2
    assert "'--seed': Input should be greater than or equal to 0" in error


def test_a_pair_that_cannot_be_measured_is_named_by_its_file(run: Any, folders: Path) -> None:
    _write(folders / "reference" / "clip 0.wav", np.zeros(RATE, np.float32))
    code, _, error, _ = run("generated", "-r", "reference", "-m", "si-snr")
    assert code == 2
    assert "generated/clip 0.wav (si-snr): si-snr: the target is silent or constant" in error


@pytest.mark.parametrize("gone", ["reference/clip 0.wav", "generated/clip 0.wav"])
def test_a_file_that_goes_away_meanwhile_is_named(folders: Path, gone: str) -> None:
    """Another process may tidy up between the listing and the reading."""

    def remove(done: int, total: int, what: str) -> None:
        Path(gone).unlink(missing_ok=True)

    with pytest.raises(MelodyError, match=rf"{gone}: .*No such file"):
        melody.evaluate("generated", reference="reference", metrics=["si-sdr"], progress=remove)
