"""The identity of code: wording changes nothing, arithmetic does, and so does all that a module imports."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from melody.artifacts import code_identity
from melody.artifacts.code_identity import SEAMS, closure, source_hash
from melody.artifacts.provenance import entry_facts
from melody.registry import Entry

THING = '''
"""A thing."""
from typing import TYPE_CHECKING

from identity_package.near import near
from melody.samplers import rotation

if TYPE_CHECKING:
    from identity_package.typed import Typed

LEVEL = 0.5
"""Ours."""


class Thing:
    """What it is."""

    def value(self, typed: "Typed") -> float:
        """Its value."""
        from identity_package.far import far

        return LEVEL * near() + far()  # no more
'''
WORDING = {
    "a comment": ("# no more", "# nothing else"),
    "the module's docstring": ('"""A thing."""', '"""Another thing."""'),
    "a docstring less": ('        """Its value."""\n', ""),
    "a class's docstring": ("What it is.", "What it may be."),
    "a constant's docstring": ('"""Ours."""', '"""Ours, measured."""'),
    "layout": ("LEVEL * near() + far()", "(\n            LEVEL * near()\n            + far()\n        )"),
    "blank lines": ("\nLEVEL", "\n\n\n\nLEVEL"),
    "what type checkers import": ("import Typed", "import Typed, Other"),
    "annotations are read late": ("from typing import", "from __future__ import annotations\nfrom typing import"),
}
ARITHMETIC = {
    "a constant": ("LEVEL = 0.5", "LEVEL = 0.25"),
    "an operator": ("+ far()", "- far()"),
    "a name": ("class Thing", "class Other"),
    "an import": ("import near\n", "import near, other\n"),
    "a text that is used": ("+ far()", "+ far('x')"),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plug-in that imports a module of ours, two of its own, and a third for type checkers alone."""
    folder = tmp_path / "identity_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "thing.py").write_text(THING)
    (folder / "typed.py").write_text("class Typed: ...\n")
    (folder / "near.py").write_text("def near(): return 1\n")
    (folder / "far.py").write_text("import json\n\nimport numpy\n\ndef far(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    _forget()
    yield folder
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("identity_package")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    source_hash.cache_clear()
    code_identity._file_of.cache_clear()


def _changed(path: Path, old: str, new: str) -> bool:
    """Whether the thing is another after a change."""
    before = source_hash("identity_package.thing")
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    source_hash.cache_clear()
    return source_hash("identity_package.thing") != before


@pytest.mark.parametrize("what", WORDING)
def test_wording_changes_nothing(package: Path, what: str) -> None:
    assert not _changed(package / "thing.py", *WORDING[what])


@pytest.mark.parametrize("what", ARITHMETIC)
def test_arithmetic_is_another_code(package: Path, what: str) -> None:
    assert _changed(package / "thing.py", *ARITHMETIC[what])


@pytest.mark.parametrize("module", ["near", "far"])
def test_what_it_imports_counts_wherever_it_is_imported(package: Path, module: str) -> None:
    assert not _changed(package / f"{module}.py", "return 1", "return 1  # one")
    assert _changed(package / f"{module}.py", "return 1", "return 2")


def test_a_compiled_module_counts_by_its_bytes(package: Path) -> None:
    """It is not loaded for that: what lies there is no library that could be."""
    extension = package / f"far{EXTENSION_SUFFIXES[0]}"
    (package / "far.py").rename(extension)
    assert "identity_package.far" in closure("identity_package.thing")
    assert _changed(extension, "return 1", "return 2")


def test_byte_code_without_a_source_counts_and_so_does_what_it_imports(package: Path) -> None:
    def compiled(source: str) -> str:
        (package / "near.py").write_text(source)
        py_compile.compile(str(package / "near.py"), str(package / "near.pyc"), doraise=True)
        (package / "near.py").unlink()
        _forget()
        importlib.import_module("identity_package.near")
        return source_hash("identity_package.thing")

    (package / "deep.py").write_text("def deep(): return 1\n")
    one = compiled("from identity_package.deep import deep\ndef near(): return 1\n")
    assert {"identity_package.near", "identity_package.deep"} <= closure("identity_package.thing").keys()
    os.utime(package / "near.pyc", (0, 0))
    assert compiled("from identity_package.deep import deep\ndef near(): return 1\n") == one
    assert compiled("from identity_package.deep import deep\ndef near(): return 2\n") != one
    assert _changed(package / "deep.py", "return 1", "return 2")


def test_modules_of_an_archive_count(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "plug.zip", "w") as archive:
        archive.writestr("identity_archived.py", "from identity_package.near import near\n")
    monkeypatch.syspath_prepend(tmp_path / "plug.zip")
    assert {"identity_archived", "identity_package.near"} <= closure("identity_archived").keys()


def test_code_that_no_file_holds_is_never_taken_for_the_same() -> None:
    """As of a cell of a notebook, which may be edited and run again."""
    made: dict[str, Any] = {}
    exec("class Typed:\n    'It was typed in.'\n", made | {"__name__": "identity_typed"}, made)
    entry = Entry("typed", "here", made["Typed"])
    assert entry_facts(entry)["source"] != entry_facts(entry)["source"]


def test_what_only_type_checkers_import_does_not(package: Path) -> None:
    assert not _changed(package / "typed.py", "...", "number = 1")
    assert "identity_package.typed" not in closure("identity_package.thing")


def test_a_plug_in_hangs_on_its_own_modules_ours_and_the_versions_of_others(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = closure("identity_package.thing")
    assert {"identity_package.near", "identity_package.far", "melody.samplers.rotation"} <= found.keys()
    assert {name.split(".")[0] for name in found} == {"identity_package", "melody", "numpy"}
    before = source_hash("identity_package.thing")
    source_hash.cache_clear()
    monkeypatch.setattr(code_identity, "version", lambda name: "another")
    assert source_hash("identity_package.thing") != before


def test_a_component_is_known_by_version_and_by_source(package: Path) -> None:
    component = importlib.import_module("identity_package.thing").Thing
    facts = entry_facts(Entry("thing", "plug-in (identity_package:Thing)", component, version="9.1"))
    assert facts["version"] == "9.1"
    assert facts["source"] == source_hash("identity_package.thing")


def test_our_modules_are_followed_and_the_seams_are_not() -> None:
    assert source_hash("melody.samplers.ddim") == source_hash("melody.samplers.ddim")
    assert source_hash("melody.samplers.ddim") != source_hash("melody.samplers.heun")
    found = set(closure("melody.samplers.ddim"))
    assert {"melody.samplers.ddim", "melody.samplers.rotation"} <= found
    assert not found & SEAMS


KEPT = ("generation", "clip_variants", "continuation", "reference_clips", "denoiser_ablation")


@pytest.mark.parametrize("job", KEPT)
def test_what_shows_or_judges_a_number_is_no_part_of_it(job: str) -> None:
    """Else a word on a page, or a table of another kind, would have every clip made anew."""
    known = closure(f"melody.reproduce.jobs.{job}")
    assert f"melody.reproduce.jobs.{job}" in known
    apart = ("report", "gate", "cli", "listening", "training", "baselines", "reproduce.tables", "reproduce.verdicts")
    assert not [name for name in known if name.startswith(tuple(f"melody.{folder}" for folder in apart))]
