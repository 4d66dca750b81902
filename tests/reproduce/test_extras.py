"""Rows that lack an extra are not attempted, and say how to get it, before anything is computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from melody.errors import MelodyError
from melody.extras import EXTRAS, lacking, need

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
from melody.cli import main
main({arguments!r})
"""
HEAD = '\nname = "{name}"\ntitle = "t"\nsource = "s"\nversion = "1"\nkind = "{kind}"\n'
STUDY = (
    HEAD.format(name="study", kind="denoiser-comparison")
    + '[settings]\nclips = 2\nseeds = [0]\n[[columns]]\nname = "mse"\nlabel = "mse"\nmeasure = "velocity_mse"\n'
    + '[[rows]]\nrow = { denoiser = "unet-2d" }\n'
)
COUNTED = (
    HEAD.format(name="counted", kind="generation-costs")
    + '[[columns]]\nname = "n"\nlabel = "n"\nmeasure = "parameters"\n[[rows]]\nrow = { system = "audioldm2" }\n'
)
COMMAND = 'pip install ".[{}]"'


def _melody(tmp_path: Path, modules: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(modules=sorted(modules), arguments=[str(one) for one in arguments])
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
    )


def test_rows_that_lack_an_extra_are_not_attempted(
    tmp_path: Path, tiny_path: Path, tiny_weights: Path, small_suite: Path
) -> None:
    clips = small_suite.read_text().replace('sampler = ["ddim"]', 'sampler = ["ddim", "diffusers"]')
    clips += '\n[[columns]]\nname = "clap"\nlabel = "FAD[CLAP]"\nmeasure = "fad"\nembedder = "laion-clap"\n'
    for name, text in (("study", STUDY), ("counted", COUNTED), ("clips", clips)):
        (tmp_path / f"{name}.toml").write_text(text)
    files = ["study.toml", "counted.toml", "clips.toml"]
    options = ["--preset", tiny_path, "--weights", tiny_weights, "--output", "out"]
    done = _melody(tmp_path, {"diffusers", "laion_clap"}, "reproduce", *files, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stderr.split())
    lacks = {
        "denoiser 'unet-2d' needs diffusers": "diffusers",
        "system 'audioldm2' needs diffusers": "diffusers",
        "sampler 'diffusers' needs diffusers": "diffusers",
        "audio embedder 'laion-clap' needs laion-clap": "embedders",
    }
    reasons = {f"{what}, which is not installed: {COMMAND.format(extra)}" for what, extra in lacks.items()}
    for reason in reasons:
        assert f"not attempted: {reason}" in told
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert not results["failures"]
    absent = {cell["reason"] for t in results["tables"] for cell in t["cells"] if cell["verdict"] == "not attempted"}
    assert reasons <= absent
    measured = [cell for t in results["tables"] for cell in t["cells"] if cell["measured"]]
    assert {cell["column"] for cell in measured} == {"mse", "fad", "passes"}, "all else goes on"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "diffusers"], "sampler 'diffusers' needs diffusers"),
        (["--system", "stable-audio-open=."], "system 'stable-audio-open' needs diffusers"),
    ],
)
def test_what_is_asked_for_by_name_ends_the_run_in_one_line(
    tmp_path: Path, tiny_path: Path, tiny_weights: Path, arguments: list[str], message: str
) -> None:
    options = ["--preset", tiny_path, "--weights", tiny_weights, "--output", "out"]
    done = _melody(tmp_path, {"diffusers"}, "reproduce", "table2", *options, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert COMMAND.format("diffusers") in done.stderr
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("module", EXTRAS)
def test_every_extra_is_named_with_its_command(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    line = f"this needs {module.replace('_', '-')}, which is not installed: {COMMAND.format(EXTRAS[module])}"
    assert lacking([module], "this") == line
    with pytest.raises(MelodyError) as caught:
        need(module, "this")
    assert str(caught.value) == line


def test_extras_are_those_of_the_distribution() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    for module, extra in EXTRAS.items():
        assert any(wanted.replace("-", "_").startswith(module) for wanted in declared[extra]), module
