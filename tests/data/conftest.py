"""One cache for all tests of the embedded corpus: the SoundFont is prepared once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from melody.data import embedded


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MELODY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def synth(cache: Path) -> object:
    return embedded.corpus_synthesizer()
