"""Public tools that we are tested against, loaded without what their modules import beside the part in question."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest


@pytest.fixture(scope="session")
def public_fad() -> Any:
    """The class FrechetAudioDistance of frechet-audio-distance, without its networks."""
    spec = importlib.util.find_spec("frechet_audio_distance")
    if spec is None or spec.origin is None:
        pytest.skip("frechet-audio-distance is not installed")
    for name in ("soundfile", "tqdm", "multiprocessing.dummy"):  # real imports of that module, to outlive the patch
        importlib.import_module(name)
    package = types.ModuleType("frechet_audio_distance")
    package.__path__ = [str(Path(spec.origin).parent)]
    absent = {"laion_clap": (), "resampy": (), "encodec": ("EncodecModel",)}
    inside = {"models": (), "models.pann": ("Cnn14", "Cnn14_8k", "Cnn14_16k"), "utils": ("load_audio_task",)}
    modules: dict[str, types.ModuleType] = {"frechet_audio_distance": package}
    for name, attributes in {**absent, **{f"frechet_audio_distance.{k}": v for k, v in inside.items()}}.items():
        modules[name] = types.ModuleType(name)
        for attribute in attributes:
            setattr(modules[name], attribute, object)
    with patch.dict(sys.modules, modules):
        return importlib.import_module("frechet_audio_distance.fad").FrechetAudioDistance
