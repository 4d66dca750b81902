"""The pages of keys in docs are those that the models make."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    import sys

    module = sys.modules["reference"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["presets", "suites", "thresholds", "results"])
def test_a_page_has_every_key_as_the_models_have_it(reference: ModuleType, name: str) -> None:
    (page,) = (page for page in reference.PAGES if page.name == name)
    written = (DOCS / f"reference-{name}.md").read_text(encoding="utf-8")
    assert written == reference.page_of(page), "run python docs/reference.py"
