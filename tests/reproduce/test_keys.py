"""What a stored number hangs on: whatever can change it changes its key, and what cannot does not."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from melody import registry
from melody.artifacts import code_identity
from melody.artifacts.store import Store
from melody.artifacts.weights import save_weights
from melody.config import PRESETS, load_preset
from melody.errors import MelodyError
from melody.pipeline import load_part
from melody.registry import Entry
from melody.reproduce.results import Cell
from melody.reproduce.runner import plan, run
from melody.reproduce.suite import Suite, load_suite
from melody.reproduce.systems import RunDefaults, SystemEntry, systems_of

ROW = "mine"
DECLARATION = """
use = "melody"
title = "mine"
[arguments]
preset = "preset.toml"
weights = "weights"
[options]
sampler = "ddim"
"""
PLUGIN = "from melody.lm.llama import Llama\nfrom keys_beside import NUMBER\nclass Own(Llama):\n    number = NUMBER\n"


class Row:
    """A row of the tables from files in a folder, of a preset with a language model of somebody else's."""

    def __init__(self, folder: Path, tiny: Path, weights: Path, suite: Path, tones: SimpleNamespace) -> None:
        self.folder, self.tones = folder, tones
        preset = tiny.read_text().replace('use = "llama"', 'use = "keys-own"')
        files = {"preset.toml": preset, "row.toml": DECLARATION, "suite.toml": suite.read_text()}
        files["suite.toml"] = files["suite.toml"].replace('-speed"', '-speed"\ncompare = true')
        files |= {"keys_plugin.py": PLUGIN, "keys_beside.py": "NUMBER = 1\n"}
        for name, content in files.items():
            (folder / name).write_text(content)
        shutil.copytree(weights, folder / "weights")
        self.context: dict[str, Any] = {}

    def edit(self, name: str, old: str, new: str) -> None:
        content = (self.folder / name).read_text()
        assert old in content
        (self.folder / name).write_text(content.replace(old, new, 1))

    @property
    def suite(self) -> Suite:
        return load_suite(self.folder / "suite.toml")

    def system(self) -> SystemEntry:
        return systems_of(RunDefaults(load_preset("demo"), "cpu"), [str(self.folder / "row.toml")])[ROW]

    def keys(self) -> set[str]:
        code_identity.source_hash.cache_clear()
        context = self.tones.context(others={ROW: self.system()}, **self.context)
        return {job.key for job in plan([self.suite], context).jobs if job.system_name == ROW}


@pytest.fixture
def row(
    tmp_path: Path,
    tiny_path: Path,
    tiny_weights: Path,
    small_suite: Path,
    tones: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Row]:
    made = Row(tmp_path, tiny_path, tiny_weights, small_suite, tones)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    code_identity._file_of.cache_clear()
    plugins = registry.language_models._load_plugins()
    component = importlib.import_module("keys_plugin").Own
    plugins["keys-own"] = Entry("keys-own", "plug-in (keys_plugin:Own)", component, version="1")
    yield made
    del plugins["keys-own"]
    for name in ("keys_plugin", "keys_beside"):
        sys.modules.pop(name, None)
    code_identity._file_of.cache_clear()


def _weights(part: str) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        path = row.folder / "weights" / f"{part}.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    return change


def _text(file: str, old: str, new: str) -> Callable[[Row], None]:
    return lambda row: row.edit(file, old, new)


def _surroundings(**options: Any) -> Callable[[Row], None]:
    return lambda row: row.context.update(options)


CHANGES: dict[str, Callable[[Row], None]] = {
    "an argument of the preset's codec": _text("preset.toml", "decoder_layers = 1", "decoder_layers = 2"),
    "another language model": _text("preset.toml", 'use = "keys-own"', 'use = "llama"'),
    "the preset's generation": _text("preset.toml", "chunks = 4", "chunks = 5"),
    "the preset's grid, which the row leaves to it": _text("preset.toml", "chunks = 4", 'chunks = 4\ngrid = "uniform"'),
    **{
        f"weights of the {part}": _weights(part)
        for part in ("joint_embedder", "rvq", "semantic_tokenizer", "language_model", "codec", "denoiser")
    },
    "code of the language model": _text("keys_plugin.py", "number = NUMBER", "number = -NUMBER"),
    "code that the language model imports": _text("keys_beside.py", "NUMBER = 1", "NUMBER = 2"),
    "an option of the row": _text("row.toml", 'sampler = "ddim"', 'sampler = "heun"'),
    "prompts": _text("suite.toml", "prompts = 3", "prompts = 2"),
    "the duration": _text("suite.toml", "duration_s = 1.0", "duration_s = 1.5"),
    "a seed": _text("suite.toml", "seeds = [0, 1]", "seeds = [2, 3]"),
    "the run's seed": _surroundings(seed=5),
}
INDIFFERENT: dict[str, Callable[[Row], None]] = {
    "the preset's name": _text("preset.toml", 'name = "tiny"', 'name = "small"'),
    "the preset's description": _text("preset.toml", "Every part", "Each part"),
    "a recipe of training": _text("preset.toml", "ema_decay = 0.9", "ema_decay = 0.8"),
    "a comment": _text("preset.toml", "[codec]", "# as small as it goes\n[codec]"),
    "a default that is written out": _text("preset.toml", "chunks = 4", 'chunks = 4\ngrid = "melody-linear"'),
    "a card beside the weights": lambda row: (row.folder / "weights" / "README.md").write_text("A card.") and None,
    "the table's title": _text("suite.toml", "A table small enough", "A table that is small enough"),
    "a tolerance": _text("suite.toml", "tolerance = 0.0", "tolerance = 0.1"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_can_change_a_number_changes_its_key(row: Row, what: str) -> None:
    before = row.keys()
    CHANGES[what](row)
    after = row.keys()
    assert before
    assert not before & after


@pytest.mark.parametrize("what", INDIFFERENT)
def test_what_cannot_change_a_number_changes_no_key(row: Row, what: str) -> None:
    before = row.keys()
    INDIFFERENT[what](row)
    assert row.keys() == before


def test_a_row_is_told_to_be_of_its_own_preset(row: Row, tmp_path: Path) -> None:
    preset = load_preset("preset.toml")
    path = row.folder / "weights" / "language_model.safetensors"  # they are bound to the component's name
    llama = preset.model_copy(update={"language_model": preset.language_model.model_copy(update={"use": "llama"})})
    save_weights(load_part(llama, "language_model", path), path, preset.component_of("language_model"))
    context = row.tones.context(others={ROW: row.system()})
    results = run([row.suite], context, store=Store(tmp_path / "store"), output=tmp_path / "out")
    (cell,) = [c for c in results.tables[0].cells if c.row.get("system") == ROW and c.column == "passes"]
    _check(cell, row)


def _check(cell: Cell, row: Row) -> None:
    assert cell.provenance is not None, cell.reason
    assert cell.provenance.preset == "tiny"
    assert cell.provenance.weights == row.system().weights
    assert cell.provenance.config["identity"]["components"]["language_model"]["name"] == "keys-own"


@pytest.mark.parametrize("name", ["musiclm", "noise2music"])
def test_baselines_are_known_by_their_own_presets(name: str, tmp_path: Path) -> None:
    def identity(text: str) -> dict[str, Any]:
        (tmp_path / "preset.toml").write_text(text)
        (tmp_path / "row.toml").write_text(
            f'use = "{name}"\ntitle = "mine"\n[arguments]\npreset = "{tmp_path}/preset.toml"\n'
            f'weights = "{PRESETS}/weights/{name}/demo"\n'
        )
        one = systems_of(RunDefaults(load_preset("demo"), "cpu"), [str(tmp_path / "row.toml")])["mine"]
        assert one.identified_by_files
        return one.identity

    text = (PRESETS / name / "demo.toml").read_text()
    before = identity(text)
    assert identity(text.replace('name = "demo"', 'name = "mine"', 1)) == before
    number = "window_s" if name == "musiclm" else "num_steps"
    changed, times = re.subn(rf"^({number} = \d)", r"\g<1>1", text, count=1, flags=re.MULTILINE)
    assert times
    assert identity(changed)["preset"] != before["preset"]
    assert before["components"]["joint_embedder"]["name"] == "mulan"
    assert set(before["weights"]) > {"joint_embedder", "rvq"}


def test_a_row_has_the_runs_device(row: Row) -> None:
    row.edit("row.toml", 'weights = "weights"', 'weights = "weights"\ndevice = "cuda"')
    with pytest.raises(MelodyError, match="system 'mine': device is the run's, for every system: give it by --device"):
        row.system()
