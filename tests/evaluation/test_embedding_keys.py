"""Embeddings that are kept: whatever can change one changes its key."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from torch import Tensor

import melody
from melody.artifacts import code_identity
from melody.protocols import AudioEmbedder
from melody.registry import Entry, audio_embedders

MODULE = """
from melody.protocols import AudioEmbedder
from melody_test_arithmetic import scaled

class Levels(AudioEmbedder):
    sample_rate, dimension, version, window_s, hop_s = 8000, 1, "1", 0.5, 0.5

    def embed(self, waveform):
        return scaled(waveform[: len(waveform) // 4000 * 4000].reshape(-1, 4000).square().mean(dim=1, keepdim=True))
"""


class Scaled(AudioEmbedder):
    """Power of a window, by an argument that it says nothing of beside its weights."""

    sample_rate, dimension, window_s, hop_s = 8_000, 1, 0.5, 0.5
    version: ClassVar[str] = "1"
    weights_hash = "0" * 64

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def embed(self, waveform: Tensor) -> Tensor:
        windows = waveform[: len(waveform) // 4000 * 4000].reshape(-1, 4000)
        return self.scale * windows.square().mean(dim=1, keepdim=True)


@pytest.fixture
def entry() -> Iterator[None]:
    audio_embedders._load_plugins()["test-scaled"] = Entry("test-scaled", "plug-in (x:y)", Scaled, version="1")
    yield
    del audio_embedders._load_plugins()["test-scaled"]


def spread(embedder: str) -> float:
    return melody.evaluate("generated", reference="reference", metrics=["fad"], embedders=[embedder])[
        f"fad[{embedder.partition(':')[0]}]"
    ].value


def test_an_argument_counts_though_the_weights_have_a_hash(folders: Path, entry: None) -> None:
    one, ten = spread("test-scaled"), spread("test-scaled:scale=10")
    assert ten == pytest.approx(100 * one, rel=1e-3)


def test_code_beside_a_plug_in_counts(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folders))
    (folders / "melody_test_levels.py").write_text(MODULE)

    def measured(scale: int) -> float:
        (folders / "melody_test_arithmetic.py").write_text(f"def scaled(power):\n    return {scale} * power  # scale\n")
        for name in ("melody_test_levels", "melody_test_arithmetic"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        for kept in (code_identity.source_hash, code_identity._file_of):
            kept.cache_clear()
        component = importlib.import_module("melody_test_levels").Levels
        monkeypatch.setitem(
            audio_embedders._load_plugins(),
            "test-levels",
            Entry("test-levels", "plug-in (x:y)", component, version="1"),
        )
        return spread("test-levels")

    one, ten = measured(1), measured(10)
    assert ten == pytest.approx(100 * one, rel=1e-3)


def test_a_cell_of_a_notebook_that_is_run_again_counts(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module has no file, and the class the same name as before."""
    notebook = ModuleType("melody_test_notebook")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)

    def measured(scale: int) -> float:
        cell = MODULE.replace("from melody_test_arithmetic import scaled", f"scaled = lambda power: {scale} * power")
        exec(cell, vars(notebook))
        entry = Entry("test-typed", "here", vars(notebook)["Levels"], version="1")
        monkeypatch.setitem(audio_embedders._load_plugins(), "test-typed", entry)
        return spread("test-typed")

    one, ten = measured(1), measured(10)
    assert ten == pytest.approx(100 * one, rel=1e-3)
