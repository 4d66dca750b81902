"""Results that somebody else wrote: nothing outside their folder is opened, and no text or number ends a report."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from melody.errors import MelodyError
from melody.report.reproduction import reproduction
from melody.report.sounds import load_sounds, read_sound
from melody.report.terminal import print_document
from melody.report.write import write_report
from melody.reproduce.results import Clip, Results, Table, load_results

NUMBERS = {"value", "low", "high", "standard_error", "p_value", "p_holm", "seconds", "paper_difference", "tolerance"}
TEXTS = {"title", "text", "label", "claim", "reason", "source", "unit", "method", "interval", "place", "warning"}


def rewritten(content: Any, keys: set[str], value: Callable[[], Any]) -> Any:
    """The same with every value of some keys replaced, where there is one."""
    if isinstance(content, list):
        return [rewritten(one, keys, value) for one in content]
    if not isinstance(content, dict):
        return content
    scalar = (str, int, float)
    return {
        key: value() if key in keys and isinstance(one, scalar) else rewritten(one, keys, value)
        for key, one in content.items()
    }


def rendered(content: Any, folder: Path) -> int:
    """Render a results file of this content, whole and in every form; gives the number of its tables."""
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    loaded = load_results(path)
    written = write_report(loaded, folder)
    assert {"report.html", "REPORT.md"} <= {one.name for one in written}
    assert all(one.stat().st_size for one in written)
    with (folder / "terminal.txt").open("w", encoding="utf-8") as file:
        print_document(reproduction(loaded), Console(file=file, width=100), verbose=True)
    for name, heading in (("report.html", "<h2"), ("REPORT.md", "\n## ")):
        assert (folder / name).read_text(encoding="utf-8").count(heading) >= len(loaded.tables)
    assert len((folder / "terminal.txt").read_text(encoding="utf-8").splitlines()) > len(loaded.tables)
    return len(loaded.tables)


def test_no_number_ends_a_report(results: Results, tmp_path: Path) -> None:
    numbers = itertools.cycle([math.inf, 5e-324, 1.0, -math.inf, math.nan, 1e308, 2.0, -1e308, 0.0, 3.0, 1e-300])
    content = rewritten(json.loads(results.model_dump_json()), NUMBERS, lambda: next(numbers))
    steps = itertools.cycle([0, -5, 2**63, 1, 20])
    assert rendered(rewritten(content, {"num_steps"}, lambda: next(steps)), tmp_path) == len(results.tables)


def test_no_text_ends_a_report(results: Results, tmp_path: Path) -> None:
    texts = itertools.cycle(["$\\frac{", "$x^2_$", "a^b_c", "_own", "\0", "\ud800", "\x1b[31m\x08", "%s{0}", ""])
    content = rewritten(json.loads(results.model_dump_json()), TEXTS, lambda: next(texts))
    for cell in (cell for table in content["tables"] for cell in table["cells"]):
        cell["row"] = {
            axis: one if axis == "num_steps" else f"{next(texts)}{one}\0$^" for axis, one in cell["row"].items()
        }
    rendered(content, tmp_path)
    for name in ("report.html", "REPORT.md"):
        assert not {"\0", "\x1b", "\x08"} & set((tmp_path / name).read_text(encoding="utf-8"))


def test_a_number_beyond_64_bits_is_one_line(results: Results, tmp_path: Path) -> None:
    content = rewritten(json.loads(results.model_dump_json()), {"num_steps"}, lambda: 10**4000)
    with pytest.raises(MelodyError, match="is not a results file: .*a whole number of 13288 bits") as error:
        rendered(content, tmp_path)
    assert len(str(error.value)) < 500


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "run"
    (inside / "clips").mkdir(parents=True)
    for path in (tmp_path / "secret.wav", inside / "clips" / "a.wav"):
        soundfile.write(path, 0.1 * np.sin(np.arange(4800)), 24_000)
    (inside / "clips" / "link.wav").symlink_to(inside / "clips" / "a.wav")
    (inside / "clips" / "out.wav").symlink_to(tmp_path / "secret.wav")
    (inside / "clips" / "up").symlink_to(tmp_path)
    (inside / "clips" / "loop.wav").symlink_to("loop.wav")
    (inside / "clips" / "zero.wav").symlink_to("/dev/zero")
    os.mkfifo(inside / "clips" / "pipe.wav")
    (inside / "clips" / "folder.wav").mkdir()
    with (inside / "clips" / "huge.wav").open("wb") as file:
        file.truncate(70_000_000)
    return inside


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("clips/pipe.wav", "not a regular file"),
        ("clips/folder.wav", "not a regular file"),
        ("clips/zero.wav", "leads out of the folder"),
        ("clips/out.wav", "leads out of the folder"),
        ("clips/up/secret.wav", "leads out of the folder"),
        ("../secret.wav", "outside the folder"),
        ("clips/../../secret.wav", "outside the folder"),
        ("/dev/zero.wav", "outside the folder"),
        ("clips\\..\\..\\secret.wav", "outside the folder"),
        ("clips/huge.wav", "larger than 64 MB"),
        ("clips/loop.wav", "cannot be read"),
        ("clips/gone.wav", "missing"),
        ("clips/" + "x" * 5000 + ".wav", "cannot be read"),
    ],
)
def test_only_regular_files_of_the_folder_are_opened(folder: Path, name: str, problem: str) -> None:
    clips = [Clip(title="t", text="x", path=name, beside="clips/a.wav"), Clip(title="a", text="x", path="clips/a.wav")]
    table = Table(suite="s", title="t", source="x", cells=[], clips=clips)
    run = Results(created="", command="", seconds=0, cells_computed=0, cells_reused=0, tables=[table])
    bad, good = load_sounds(run, folder)["s"]
    assert problem in bad.problem
    assert not bad.source
    assert good.source
    if name == "clips/pipe.wav":
        assert any(path.name == "report.html" for path in write_report(run, folder))


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    assert read_sound(folder, "clips/link.wav")[1].mono.size == 4800


@pytest.mark.parametrize("content", ["[" * 100_000, '{"n": ' + "9" * 5000 + "}", "{", "\0", '"\ud800"', "[]", "1e999"])
def test_a_file_that_is_none_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(MelodyError) as error:
        load_results(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_byte_order_mark_is_no_fault(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes(results.model_dump_json().encode(encoding))
        assert load_results(path) == Results.model_validate_json(results.model_dump_json())
