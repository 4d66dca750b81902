"""A folder of audio as a system: pairing by name, exact lengths, and every kind of bad folder by the file's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from melody.baselines.folder import FolderSystem, slug
from melody.errors import MelodyError
from melody.registry import systems

RATE = 8000
FLUTE, DRUM = "a slow flute", "A drum, loud!"


def _write(path: Path, level: float, seconds: float = 1.0, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * rate), level, np.float32), rate, subtype="FLOAT")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "a-slow-flute.wav", 0.25)
    _write(tmp_path / "a-drum-loud.wav", 0.5)
    return tmp_path


def _made(folder: Path, prompts: list[str], seeds: list[int] | None = None, duration_s: float = 1.0) -> torch.Tensor:
    system = FolderSystem(folder)
    return system.generate(prompts, duration_s=duration_s, seeds=seeds or [0] * len(prompts)).waveform


def test_clips_are_paired_by_name_and_not_by_order(folder: Path) -> None:
    for prompts, levels in (([FLUTE, DRUM], [0.25, 0.5]), ([DRUM, FLUTE], [0.5, 0.25])):
        made = _made(folder, prompts)
        assert made.shape == (2, 1, RATE)
        assert made[:, 0, 0].tolist() == levels


def test_it_is_registered_says_its_hash_and_has_no_work(folder: Path) -> None:
    system = systems.create("folder", {"folder": str(folder)})
    assert system.work(1.0) == []
    before = system.identity()
    assert before["clips"] == 2
    _write(folder / "a-drum-loud.wav", 0.75)
    assert FolderSystem(folder).identity() != before
    trace = system.generate([FLUTE], duration_s=1.0, seeds=[0]).trace
    assert trace.passes == trace.formula == {}


def test_metadata_names_texts_and_takes(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        'file_name,text,seed\na-slow-flute.wav,"one, text",0\na-drum-loud.wav,"one, text",1\n'
    )
    assert _made(folder, ["one, text"], [0])[0, 0, 0] == 0.25
    assert _made(folder, ["one, text"], [1])[0, 0, 0] == 0.5
    assert _made(folder, ["one, text"], [10_003])[0, 0, 0] == 0.5  # the tables' run 1, row 3
    assert _made(folder, ["one, text"], [3])[0, 0, 0] == 0.25  # run 0, row 3
    with pytest.raises(MelodyError, match=r"no clip of seed 2 for 'one, text' \(there: 0, 1\)"):
        _made(folder, ["one, text"], [20_003])


def test_longer_clips_are_cut_and_other_rates_resampled_with_a_note(folder: Path) -> None:
    _write(folder / "a-harp.flac".replace(".flac", ".wav"), 0.5, seconds=2, rate=16_000)
    system = FolderSystem(folder)
    assert system.sample_rate == RATE
    made = system.generate(["a harp"], duration_s=1.0, seeds=[0])
    assert made.waveform.shape == (1, 1, RATE)
    assert system.notes == ["a-harp.wav: the first 1 of 2 s", "a-harp.wav: resampled from 16000 to 8000 Hz"]


def test_a_short_clip_is_named(folder: Path) -> None:
    with pytest.raises(MelodyError, match=r"a-slow-flute.wav is too short: it lasts 1 s, expected 1.5 s"):
        _made(folder, [FLUTE], duration_s=1.5)


def test_too_few_clips_name_the_prompts(folder: Path) -> None:
    with pytest.raises(MelodyError, match="no clip for 1 of 2 prompts .*: 'a harp'"):
        _made(folder, [FLUTE, "a harp"])


def test_too_many_clips_are_named_unless_metadata_gives_their_texts(folder: Path) -> None:
    _write(folder / "a-harp.wav", 0.1)
    with pytest.raises(MelodyError, match=r"holds 1 clips of no prompt: a-harp.wav"):
        _made(folder, [FLUTE, DRUM])
    rows = [("a-slow-flute.wav", FLUTE), ("a-drum-loud.wav", f'"{DRUM}"'), ("a-harp.wav", "a harp")]
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{name},{text}\n" for name, text in rows))
    assert len(_made(folder, [FLUTE, DRUM])) == 2


def test_a_file_without_a_row_is_named(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text\na-slow-flute.wav,a slow flute\n")
    with pytest.raises(MelodyError, match=r"a-drum-loud.wav: .*has no row for it"):
        FolderSystem(folder)


def test_doubled_clips_are_named(folder: Path) -> None:
    _write(folder / "more" / "A slow flute.wav", 0.3)
    with pytest.raises(MelodyError, match=r"2 clips for 'a-slow-flute': a-slow-flute.wav; more/A slow flute.wav"):
        FolderSystem(folder)


def test_doubled_rows_and_bad_seeds_are_named(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text\na-slow-flute.wav,x\na-drum-loud.wav,x\n")
    with pytest.raises(MelodyError, match="no column 'seed' tells them apart"):
        FolderSystem(folder)
    (folder / "metadata.csv").write_text("file_name,text,seed\na-slow-flute.wav,x,0\na-drum-loud.wav,x,one\n")
    with pytest.raises(MelodyError, match="line 3: seed 'one' of a-drum-loud.wav"):
        FolderSystem(folder)


def test_unreadable_clips_are_named(folder: Path) -> None:
    (folder / "a-drum-loud.wav").write_bytes(b"no sound")
    with pytest.raises(MelodyError, match=r"a-drum-loud.wav: it cannot be read as audio"):
        FolderSystem(folder)
    _write(folder / "a-drum-loud.wav", float("nan"))
    with pytest.raises(MelodyError, match=r"cannot use .*a-drum-loud.wav: 8,000 of 8,000 samples are NaN"):
        _made(folder, [DRUM])


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="no such folder"):
        FolderSystem(tmp_path / "none")


def test_slugs_meet_across_unicode_forms() -> None:
    assert slug("Cafe\u0301 jazz") == slug("Caf\u00e9  jazz!") == "caf\u00e9-jazz"
