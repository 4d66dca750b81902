"""Names of files, folders and samples that are not UTF-8, through every command: it works, or it is one line."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melody.cli import main
from melody.data.loading import whole_corpora

SOUND, FOLDER, KEY = os.fsdecode(b"b\xff\xe9.wav"), os.fsdecode(b"d\xff"), os.fsdecode(b"k\xff")
RATE = 24_000
pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="its file systems have no such names")
CHEAP = ["--steps", "1", "--duration", "0.5"]


def sound(place: int, seconds: float = 2.0) -> bytes:
    buffer = io.BytesIO()
    tone = 0.1 * np.sin(np.arange(int(seconds * RATE)) * 0.03 * (1 + place))
    soundfile.write(buffer, tone, RATE, format="WAV")
    return buffer.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("mixed", FOLDER, "corpus"):
        Path(folder).mkdir()
        for place in range(3):
            Path(folder, f"{place}.wav").write_bytes(sound(place))
    for folder in ("mixed", ".", "corpus"):
        Path(folder, SOUND).write_bytes(sound(7))
    rows = [f"{place}.wav,a piano" for place in range(3)]
    Path("corpus", "metadata.csv").write_text("\n".join(["file_name,text", *rows, ""]))
    Path(FOLDER, "metadata.csv").write_text("\n".join(["file_name,text", *rows, ""]))
    Path("latin.csv").write_bytes(b"file_name,text\nb\xff\xe9.wav,a piano\n")
    with tarfile.open("keys.tar", "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        for place, key in enumerate(("a", KEY, "c")):
            for ending, content in ((".wav", sound(place)), (".txt", b"a piano")):
                member = tarfile.TarInfo(key + ending)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return tmp_path


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["evaluate", "mixed", "-m", "loudness"], 2, r"b\udcff\udce9.wav: its name is not UTF-8"),
    (["evaluate", "mixed", "-m", "loudness", "--skip-bad", "--json", "r.json", "--html", "r.html"], 0, ""),
    (["evaluate", FOLDER, "-m", "loudness", "--json", f"{FOLDER}.json", "--html", f"{FOLDER}.html"], 0, ""),
    (["evaluate", FOLDER, "-m", "loudness", "--captions", "latin.csv"], 2, "byte 0xff is not UTF-8"),
    (["evaluate", FOLDER, "-m", "loudness", "--store", KEY], 0, ""),
    (["evaluate", SOUND], 2, r"b\xff\xe9.wav"),
    (["compare", "corpus", FOLDER, "-m", "loudness", "--allow-overlap", "--html", "c.html"], 2, r"b\udcff\udce9"),
    (["compare", "corpus", FOLDER, "-m", "loudness", "--allow-overlap", "--skip-bad", "--json", f"{KEY}.json"], 0, ""),
    (["gate", FOLDER, "-t", SOUND], 2, r"d\xff/results.json"),
    (["gate", "x", "-t", SOUND, "--junit", f"{FOLDER}/j.xml"], 2, "cannot read x"),
    (["report", FOLDER], 2, r"d\xff/results.json"),
    (["report", SOUND], 2, r"b\xff\xe9.wav"),
    (["listening", "analyse", SOUND], 2, r"b\xff\xe9.wav, line 1"),
    (["listening", "analyse", "latin.csv", "--html", f"{FOLDER}.html"], 2, "latin.csv"),
    (["data", "shards", "corpus", "--out", KEY], 0, r"b\udcff\udce9.wav"),
    (["data", "shards", FOLDER, "--out", "out"], 0, ""),
    (["data", "shards", "keys.tar", "--out", "out"], 0, ""),
    (["data", "shards", SOUND, "--out", "out"], 2, r"b\xff\xe9.wav"),
    (["train", "joint", "--data", SOUND, "--out", "out"], 2, r"b\xff\xe9.wav"),
    (["train", "joint", "--preset", SOUND, "--out", "out"], 2, "unknown preset"),
    (["export", FOLDER, "--out", "out"], 2, r"d\xff"),
    (["reproduce", FOLDER], 2, "unknown suite"),
    (["reproduce", "table3", "--ratings", SOUND, "-o", KEY], 2, r"b\xff\xe9.wav"),
    (["generate", FOLDER, *CHEAP, "-o", "o.wav"], 2, "the prompt is not UTF-8"),
    (["generate", "x", *CHEAP, "--weights", FOLDER, "-o", "o.wav"], 2, r"d\xff"),
    (["generate", "a piano", *CHEAP, "-o", f"{KEY}.wav"], 0, ""),
    (["generate", "--prompt-audio", SOUND, *CHEAP, "-o", f"{KEY}.flac"], 0, ""),
    (["generate", "--continue-from", SOUND, *CHEAP, "-o", "o.wav"], 0, ""),
])  # fmt: skip
def test_a_name_that_is_no_utf_8(
    here: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    error = capfd.readouterr().err
    assert (ended.value.code or 0) == code, error
    assert told.replace("\\udc", "\\x") in error.replace("\\udc", "\\x")
    assert "Traceback" not in error
    if code == 2:
        assert error.strip().splitlines()[-1].startswith("melody: error: ")
        assert not Path("o.wav").exists()
    for option in ("--json", "--html", "-o", "--out"):
        if code == 0 and option in arguments:
            assert Path(arguments[arguments.index(option) + 1]).exists()


def test_samples_of_odd_keys_keep_their_sound_and_text(here: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", "shards", "keys.tar", "--out", "out"])
    assert not ended.value.code
    _, corpus = whole_corpora("out")[0]
    assert len(corpus) == 3
