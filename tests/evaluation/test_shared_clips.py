"""Folders that share clips: the reference inside of the generated folder, one folder as both, links, copies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import melody
from melody.cli import main
from melody.errors import MelodyError

FLAG = "say --allow-overlap"


def test_a_reference_inside_of_the_generated_folder_is_refused_and_told(folders: Path) -> None:
    apart = melody.evaluate("generated", reference="reference", metrics=["fad"], skip_bad=True)["fad"].value
    shutil.move("reference", "generated/reference")
    with pytest.raises(MelodyError, match=rf"6 of 12 clips of generated are clips of generated/reference too.*{FLAG}"):
        melody.evaluate("generated", reference="generated/reference", metrics=["fad"], skip_bad=True)
    result = melody.evaluate(
        "generated", reference="generated/reference", metrics=["fad"], skip_bad=True, allow_overlap=True
    )
    assert result["fad"].value < apart
    assert any("6 of 12 clips of generated are clips of generated/reference too" in note for note in result.notes)


def test_a_generated_folder_inside_of_the_reference_is_refused(folders: Path) -> None:
    shutil.move("generated", "reference/generated")
    with pytest.raises(MelodyError, match="6 of 6 clips of reference/generated are clips of reference too"):
        melody.evaluate("reference/generated", reference="reference", metrics=["peak"])


@pytest.mark.parametrize("name", ["generated", "./sub/../generated", "link"])
def test_one_folder_as_both_is_refused(folders: Path, name: str) -> None:
    Path("sub").mkdir()
    Path("link").symlink_to("generated")
    with pytest.raises(MelodyError, match=rf"hold the same files; .*{FLAG}"):
        melody.evaluate("generated", reference=name, metrics=["peak"])
    with pytest.raises(MelodyError, match="hold the same files"):
        melody.compare("generated", name, metrics=["peak"])


def test_hard_links_are_the_same_files(folders: Path) -> None:
    Path("reference/clip 0.wav").unlink()
    os.link("generated/clip 0.wav", "reference/clip 0.wav")
    with pytest.raises(MelodyError, match=r"1 of 6 clips of generated are clips of reference too: clip 0\.wav"):
        melody.evaluate("generated", reference="reference", metrics=["peak"])


def test_either_side_of_a_comparison_is_held_against_the_reference_too(folders: Path, make: Any) -> None:
    make(folders / "other", seed=9)
    with pytest.raises(MelodyError, match="other and other hold the same files"):
        melody.compare("generated", "other", reference="other", metrics=["peak"])


def test_copies_are_told_and_measured(folders: Path) -> None:
    shutil.copy("generated/clip 0.wav", "reference/clip 0.wav")
    result = melody.evaluate("generated", reference="reference", metrics=["peak"])
    assert "1 generated clips are copies of reference clips: clip 0.wav" in result.notes


def test_the_command_line_refuses_in_one_line_and_takes_the_flag(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "generated", "-r", "generated", "-m", "peak", "--json", "out.json"]
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert FLAG in capsys.readouterr().err
    assert not Path("out.json").exists()
    with pytest.raises(SystemExit) as error:
        main([*arguments, "--allow-overlap"])
    assert error.value.code == 0
    assert "hold the same files" in json.dumps(json.loads(Path("out.json").read_text())["notes"])
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "generated", "-m", "peak", "--captions", "out.json", "--json", "./out.json"])
    assert error.value.code == 2
    assert "name one file twice" in capsys.readouterr().err
