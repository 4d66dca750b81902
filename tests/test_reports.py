"""The reference run that is kept in the repository: whole, of the shipped weights, within the shipped thresholds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from melody import registry
from melody.artifacts.files import file_hash
from melody.config import load_preset
from melody.gate.checks import gate
from melody.gate.thresholds import load_thresholds
from melody.pipeline import MelodyPipeline
from melody.reproduce.jobs.denoiser_ablation import FOLDER
from melody.reproduce.results import Results, load_results
from melody.reproduce.suite import load_suite, suite_names
from melody.reproduce.systems import RunDefaults, systems_of
from melody.reproduce.tables.builder import quantity_of

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reports" / "demo"
FOLDERS = tuple(sorted(path.parent for path in (ROOT / "reports").glob("*/results.json")))
OF_WEIGHTS = (REFERENCE, ROOT / "reports" / "demo-card")


@pytest.fixture(scope="module")
def reference() -> Results:
    return load_results(REFERENCE / "results.json")


@pytest.mark.parametrize("name", ["demo", "regression"])
def test_the_reference_run_holds_the_shipped_thresholds(reference: Results, name: str) -> None:
    outcome = gate(reference, load_thresholds(ROOT / "eval" / "thresholds" / f"{name}.toml"))
    assert outcome.passed, [check.line for check in outcome.failed]
    assert len(outcome.checks) >= 3


@pytest.mark.parametrize("folder", OF_WEIGHTS, ids=lambda folder: folder.name)
def test_a_kept_run_is_of_the_shipped_weights(folder: Path) -> None:
    tables = load_results(folder / "results.json").tables
    measured = [cell for table in tables for cell in table.cells if cell.measured and cell.provenance]
    assert measured
    assert {cell.provenance.weights for cell in measured if cell.provenance} <= _shipped_weights()
    own = [cell for cell in measured if cell.row.get("system", "melody") == "melody" and "basis" not in cell.row]
    own = [cell for cell in own if "preset" in str(cell.row.get("denoiser", "preset"))]
    assert {cell.provenance.weights for cell in own if cell.provenance} == {_own_weights()}


def _own_weights() -> str:
    return MelodyPipeline.from_preset("demo").weights_hash


def _shipped_weights() -> set[str | None]:
    """Of the demo, of the baselines', and of Table 5's study."""
    others = systems_of(RunDefaults(load_preset("demo"), "cpu"), [])
    baselines = {one.weights for one in others.values() if one.makings}
    study = {file_hash(path) for path in FOLDER.glob("*.safetensors")}
    return {_own_weights(), *baselines, *study}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_kept_run_has_the_versions_directions_and_units_of_today(folder: Path) -> None:
    for table in load_results(folder / "results.json").tables:
        if table.suite not in suite_names():
            continue
        suite = load_suite(table.suite)
        measures = registry.tables.get(suite.kind).measures
        today = {column.name: quantity_of(column, measures).facts for column in suite.columns}
        for cell in table.cells:
            kept = (cell.metric_version, cell.direction, cell.unit)
            assert kept == today.get(cell.column, kept), (table.suite, cell.column)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_kept_run_holds_no_path_of_a_machine_and_little_sound(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"results.json", "REPORT.md"}
    assert folder != REFERENCE or (folder / "report.html").is_file()
    assert sum(path.stat().st_size for path in files if path.suffix in (".flac", ".mp3", ".wav")) <= 500_000
    for path in files:
        if path.suffix in (".json", ".md", ".csv", ".html"):
            assert not re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text()), path
