"""The house's own rules: layers, what the wheel holds, what an import costs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from melody.gate.checks import gate
from melody.gate.thresholds import load_thresholds
from melody.reproduce.results import load_results

ROOT = Path(__file__).resolve().parents[1]


def _run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=600, **options)  # type: ignore[call-overload, no-any-return]


def test_layers_hold() -> None:
    result = _run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr


def test_contributing_names_the_layers_of_the_contract() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    declared = tools["importlinter"]["contracts"][0]["layers"]
    layers = [layer.replace("melody.", "`").replace(" |", "` |") + "`" for layer in declared]
    named = " > ".join(layers[: layers.index("`registry`") + 1])
    page = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert f"**Layers.** {named} > the seams." in page


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    result = _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert result.returncode == 0, result.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_wheel_holds_one_package_with_declarations_presets_and_weights(wheel: Path) -> None:
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"melody"}
    for name in (
        "melody/presets/demo.toml",
        "melody/presets/paper.toml",
        "melody/presets/weights/demo/denoiser.safetensors",
        "melody/_declarations/eval/suites/table2.toml",
        "melody/_declarations/eval/thresholds/demo.toml",
    ):
        assert (wheel / name).is_file(), name


def test_every_threshold_of_the_wheel_finds_its_baseline(wheel: Path) -> None:
    for path in (wheel / "melody" / "_declarations" / "eval" / "thresholds").glob("*.toml"):
        thresholds = load_thresholds(path)
        baselines = {one.no_worse_than for one in thresholds.thresholds if one.no_worse_than is not None}
        for baseline in baselines:
            outcome = gate(load_results(baseline), thresholds)
            assert outcome.passed, "a run holds against itself"
        assert (path.name == "regression.toml") == bool(baselines)


@pytest.mark.parametrize(("folder", "most"), [(".", 46), ("melody/presets/weights", 34), ("reports", 8)])
def test_what_git_tracks_stays_small(folder: str, most: int) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    names = _run("git", "ls-files", "-z", folder).stdout.split("\0")
    sizes = [path.stat().st_size for name in names if name and (path := ROOT / name).is_file()]
    assert 0 < sum(sizes) <= most * 2**20


def test_the_page_on_architecture_names_every_folder_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)/` \| \S", page, re.MULTILINE)
    folders = [path.name for path in (ROOT / "melody").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(named) == sorted(folders)
    for path in re.findall(r"`((?:melody|eval|baselines)/[\w./-]+)`", page):
        known = ROOT / re.sub(r"NAME.*", "", path)
        assert known.exists(), path


def test_weights_stay_under_24_megabytes_and_have_a_card() -> None:
    folder = ROOT / "melody" / "presets" / "weights" / "demo"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 24e6
    assert (folder / "card.json").is_file()


@pytest.mark.parametrize("module", ["laion_clap", "lightning", "ray", "torch"])
def test_import_melody_loads_nothing_heavy(module: str) -> None:
    result = _run(sys.executable, "-c", f"import melody, sys; sys.exit({module!r} in sys.modules)")
    assert result.returncode == 0, result.stderr


def test_import_melody_takes_under_three_seconds() -> None:
    """Of the processor's time: a busy machine must not fail it."""
    code = "import time; t = time.process_time(); import melody; print(time.process_time() - t)"
    assert float(_run(sys.executable, "-c", code).stdout) < 3


def test_the_pipeline_and_every_registry_load_without_the_optional_packages() -> None:
    code = """
import sys
optional = "laion_clap frechet_audio_distance lightning tensorboard webdataset ray diffusers torchaudio"
for name in optional.split():
    sys.modules[name] = None
import melody
from melody.registry import REGISTRIES
melody.MelodyPipeline
for one in REGISTRIES.values():
    for entry in one.entries():
        assert entry.error is None or not entry.in_tree, entry
"""
    result = _run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
