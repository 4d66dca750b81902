"""Files whose names differ by the extension alone: ``a.wav`` and ``a.flac`` of one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile

import melody
from melody.errors import MelodyError

RATE = 8_000


@pytest.fixture
def doubled(folders: Path, samples: Any) -> Path:
    """``generated`` with another sound ``clip 0.flac`` beside ``clip 0.wav``."""
    soundfile.write("generated/clip 0.flac", samples(3, seed=5), RATE)
    return folders


def test_each_is_a_clip_of_its_own_and_it_is_told(doubled: Path) -> None:
    result = melody.evaluate("generated", metrics=["peak"])
    assert {"clip 0.wav", "clip 0.flac", "clip 2"} < set(result["peak"].clips)
    assert "clip 0.flac, clip 0.wav: named alike but for the extension, each is a clip of its own" in result.notes


def test_pairs_go_by_the_whole_name(doubled: Path) -> None:
    plain = melody.evaluate("generated", reference="reference", metrics=["log-mel"], skip_bad=True)["log-mel"]
    Path("generated/clip 0.flac").unlink()
    alone = melody.evaluate("generated", reference="reference", metrics=["log-mel"])["log-mel"]
    assert plain.clips["clip 0.wav"] == alone.clips["clip 0"]
    assert plain.scored == 6
    assert "clip 0.flac" not in plain.clips


def test_a_clip_finds_its_partner_where_the_other_folder_has_two(doubled: Path, samples: Any) -> None:
    result = melody.evaluate("reference", reference="generated", metrics=["log-mel"], skip_bad=True)
    assert result["log-mel"].scored == 6
    assert [Path(one.file).name for one in result.skipped] == ["clip 0.flac"]
    compared = melody.compare("reference", "generated", metrics=["peak"], skip_bad=True)
    assert compared["peak"].pairs == 6
    assert [Path(one.file).name for one in compared.skipped] == ["clip 0.flac"]


def test_a_text_names_which_of_the_two_it_is_of(doubled: Path) -> None:
    names = sorted(path.relative_to("generated").as_posix() for path in Path("generated").rglob("*.*"))
    rows = ["file_name,text", *(f"{name},a tone" for name in names if "clip 0" not in name)]
    Path("captions.csv").write_text("\n".join([*rows, "clip 0,a tone"]))
    with pytest.raises(MelodyError, match=r"clip 0\.flac and clip 0\.wav have that name: write the extension"):
        melody.evaluate("generated", captions="captions.csv", metrics=["mcc"])
    Path("captions.csv").write_text("\n".join([*rows, "clip 0.wav,a tone", "clip 0.flac,another"]))
    assert melody.evaluate("generated", captions="captions.csv", metrics=["mcc"])["mcc"].scored == 7
