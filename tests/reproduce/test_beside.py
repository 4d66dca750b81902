"""Components and presets beside the run's own preset: each a row with its own weights, key and counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from melody.artifacts.store import Store
from melody.artifacts.weights import save_weights
from melody.config import Preset, with_changes
from melody.errors import MelodyError
from melody.pipeline import build_part
from melody.registry import Entry, language_models
from melody.reproduce.results import Cell, Results
from melody.reproduce.runner import reproduce
from melody.reproduce.suite import load_suites

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "language-model-plugin"
RTF = """
[[columns]]
name = "rtf"
label = "× real time"
measure = "rtf"
reason = "a test's system"

[[paper]]"""


@pytest.fixture(scope="module")
def gru() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        from melody_gru import Gru

        language_models._load_plugins()["gru"] = Entry("gru", "melody-gru (melody_gru:Gru)", Gru, version="0.1.0")
        yield
        del language_models._load_plugins()["gru"]


@pytest.fixture(scope="module")
def gru_weights(gru: None, tiny_preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gru")
    preset = with_changes(tiny_preset, ["language_model.use=gru", "language_model.hidden_size=8"])
    torch.manual_seed(0)
    save_weights(
        build_part(preset, "language_model"),
        folder / "language_model.safetensors",
        preset.component_of("language_model"),
    )
    return folder


@pytest.fixture(scope="module")
def compared(small_suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "compared.toml"
    text = small_suite.read_text().replace('-speed"', '-speed"\ncompare = true', 1)
    path.write_text(text.replace("\n[[paper]]", RTF, 1))
    return path


def _run(suite: Path, tiny_path: Path, tiny_weights: Path, folder: Path, **rows: Any) -> Results:
    return reproduce(
        load_suites([suite]),
        preset=tiny_path,
        weights=str(tiny_weights),
        store=Store(folder / "store"),
        output=folder / "out",
        **rows,
    )


def _cell(results: Results, column: str, **row: Any) -> Cell:
    (table,) = results.tables
    (cell,) = (c for c in table.cells if c.column == column and row.items() <= c.row.items())
    assert cell.measured is not None, cell.reason
    assert cell.provenance is not None
    return cell


def test_each_is_a_row_with_its_own_weights_key_and_counts(
    compared: Path, tiny_path: Path, tiny_weights: Path, gru_weights: Path, tmp_path: Path
) -> None:
    other = tmp_path / "slower.toml"
    text = tiny_path.read_text().replace('name = "tiny"', 'name = "slower"')
    other.write_text(text.replace("num_steps = 3", "num_steps = 6"))
    rows = {"components": {"language_model": [f"gru={gru_weights}"]}, "presets": [f"{other}={tiny_weights}"]}
    results = _run(compared, tiny_path, tiny_weights, tmp_path, **rows)
    passes = {name: _cell(results, "passes", system=name) for name in ("gru", "slower")}
    own = _cell(results, "passes", num_steps=3)
    # By hooks, which a run in which the formula says otherwise would not survive: 25 tokens and the steps.
    assert {name: cell.measured.value for name, cell in passes.items() if cell.measured} == {"gru": 28, "slower": 31}
    weights = {cell.provenance.weights for cell in (own, *passes.values()) if cell.provenance}
    assert len(weights) == 2, "the GRU's are its own, the slower preset's are the run's"
    gru = passes["gru"].provenance
    assert gru is not None
    assert gru.preset == "tiny with language_model.use=gru"
    identity = gru.config["identity"]
    assert identity["components"]["language_model"]["origin"] == "melody-gru (melody_gru:Gru)"
    assert not set(gru.cells) & set(own.provenance.cells if own.provenance else ())
    assert _cell(results, "fad", system="gru").measured != _cell(results, "fad", num_steps=3).measured
    assert _cell(results, "rtf", system="gru").measured is not None
    again = _run(compared, tiny_path, tiny_weights, tmp_path, **rows)
    assert again.cells_computed == 0
    assert json.loads(again.model_dump_json())["tables"] == json.loads(results.model_dump_json())["tables"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"components": {"language_model": ["grru=x"]}}, "unknown language model 'grru'; did you mean 'gru'"),
        (
            {"components": {"language_model": ["gru"]}},
            "--language-model gru: 'gru' needs its weights: expected --language-model gru=F",
        ),
        ({"components": {"language_model": ["gru=absent"]}}, "there is no folder absent"),
        ({"components": {"language_model": ["gru=TINY"]}}, "holds weights of 'llama', not of 'gru'"),
        ({"presets": ["slow.tml"]}, "unknown preset 'slow.tml'"),
        ({"presets": ["table5-dual-path"]}, "lacks weights in .*denoiser"),
    ],
)
def test_bad_rows_are_one_line(
    compared: Path, tiny_path: Path, tiny_weights: Path, gru: None, tmp_path: Path, rows: Any, message: str
) -> None:
    components = rows.get("components", {})
    texts = [text.replace("TINY", str(tiny_weights)) for text in components.get("language_model", ())]
    with pytest.raises(MelodyError, match=message) as caught:
        _run(compared, tiny_path, tiny_weights, tmp_path, **{**rows, "components": {"language_model": texts}})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
