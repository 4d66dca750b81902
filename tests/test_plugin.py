"""A component from another distribution: installed, it is one of ours; broken, it breaks only itself."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from melody.errors import MelodyError
from melody.registry import Registry
from melody.samplers import sample

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
EXAMPLE = EXAMPLES / "sampler-plugin"


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    # A wide terminal, so that a table's lines are not broken; no index, so that nothing is fetched.
    environment |= {"COLUMNS": "200", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plugged_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that holds the examples and sees, behind its own packages, those of this one."""
    folder = tmp_path_factory.mktemp("plugin")
    sources = [folder / path.name for path in sorted(EXAMPLES.glob("*-plugin"))]
    for source in sources:
        shutil.copytree(EXAMPLES / source.name, source, ignore=shutil.ignore_patterns("__pycache__", "build", "dist"))
    _run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    site_packages = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # addsitedir and not a plain path: only so the .pth files over there count, such as that of an editable install.
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    Path(site_packages, "of_the_tests.pth").write_text(line, encoding="utf-8")
    _run(python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", *sources, cwd=folder)
    return python


def test_the_registry_sees_the_plugin(plugged_in, tmp_path):
    code = (
        "import json; from melody.registry import samplers; entry = samplers.entry('midpoint');"
        "print(json.dumps([entry.origin, entry.version, entry.in_tree, entry.error, samplers.names()]))"
    )
    origin, version, in_tree, error, names = json.loads(_run(plugged_in, "-c", code, cwd=tmp_path))
    assert origin == "melody-midpoint (melody_midpoint:Midpoint)"
    assert version == "0.1.0"
    assert in_tree is False
    assert error is None
    assert {"ddim", "midpoint", "unipc"} <= set(names)


def test_the_command_line_lists_the_plugin_beside_ours(plugged_in, tmp_path):
    lines = _run(plugged_in, "-m", "melody", "components", "samplers", cwd=tmp_path).splitlines()
    midpoint = next(line for line in lines if "midpoint" in line)
    assert "melody-midpoint" in midpoint
    assert "Explicit midpoint method" in midpoint
    assert any("ddim" in line for line in lines)


@pytest.mark.parametrize("name", ["gru", "wave-denoiser", "conv-codec", "crest"])
def test_the_other_examples_keep_what_their_kind_promises(plugged_in, tmp_path, name):
    lines = _run(plugged_in, "-m", "melody", "check-plugin", name, cwd=tmp_path).splitlines()
    assert f"{name!r} from melody-{name} (melody_{name.replace('-', '_')}:" in lines[0]
    assert len(lines) > 3
    assert all(line.startswith(("holds", "skipped")) for line in lines[1:])


def test_the_plugin_converges_with_its_order(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from melody_midpoint import Midpoint

    def velocity(latents: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        """Of data from N(0, 1/4): latents scale as sqrt(cos²/4 + sin²), so noise ends at half of itself."""
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        return 0.75 * cos * sin / (cos**2 / 4 + sin**2) * latents

    noise = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = [
        float((sample(velocity, noise, sampler=Midpoint(), grid="uniform", num_steps=n) - noise / 2).norm())
        for n in (20, 40, 80)
    ]
    assert math.log2(errors[0] / errors[-1]) / 2 == pytest.approx(Midpoint.order, abs=0.15)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that finds a distribution whose plug-ins fail in each their way, and one that works."""
    (tmp_path / "falls_over.py").write_text("raise RuntimeError('no such device\\nand more')\n", encoding="utf-8")
    half_done = "from melody.protocols import Sampler\nclass NoStep(Sampler):\n    order = 1\nclass Other:\n    pass\n"
    (tmp_path / "half_done.py").write_text(half_done, encoding="utf-8")
    (tmp_path / "works.py").write_text((EXAMPLE / "melody_midpoint.py").read_text(encoding="utf-8"), encoding="utf-8")
    metadata = tmp_path / "falls_over-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: falls-over\nVersion: 1.0\n", encoding="utf-8")
    points = {
        "at_import": "falls_over:Sampler",
        "missing": "not_installed_anywhere:Sampler",
        "no_step": "half_done:NoStep",
        "no_sampler": "half_done:Other",
        "ddim": "works:Midpoint",
        "good": "works:Midpoint",
    }
    lines = ["[melody.samplers]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("samplers", "melody.protocols:Sampler", ("melody.samplers",))
    # The modules of melody.samplers are imported already, and registered themselves with the global registry.
    from melody.registry import samplers

    samplers.names()
    registry._components = dict(samplers._components)
    return registry


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("at_import", "RuntimeError: no such device"),
        ("missing", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("no_step", "half_done.NoStep lacks step"),
        ("no_sampler", "expected a subclass of melody.protocols.Sampler, got half_done.Other"),
    ],
)
def test_a_broken_plugin_breaks_only_itself(broken, name, reason):
    with pytest.raises(MelodyError, match=rf"sampler '{name}' from falls-over .* cannot be used: {reason}$") as caught:
        broken.get(name)
    assert "\n" not in str(caught.value)
    assert name not in broken.names()
    assert {"ddim", "good", "unipc"} <= set(broken.names())
    listed = {entry.name: entry.sentence for entry in broken.entries() if not entry.in_tree}
    assert listed[name].startswith(f"broken: {reason}")


def test_a_plugin_cannot_take_one_of_our_names(broken):
    assert broken.get("ddim").__module__ == "melody.samplers.ddim"
    [refused] = [entry for entry in broken.entries() if entry.name == "ddim" and not entry.in_tree]
    assert refused.error == "the name is taken by melody itself"


def test_plugins_stand_in_the_table_beside_ours(plugged_in, tmp_path, tiny_path, tiny_weights, small_suite):
    suite = small_suite.read_text().replace('-speed"', '-speed"\ncompare = true')
    (tmp_path / "all.toml").write_text(suite)
    (tmp_path / "long.toml").write_text('use = "plucks"\ntitle = "long plucks"\n[arguments]\ndecay_s = 2.0\n')
    options = ["--preset", tiny_path, "--weights", tiny_weights, "--output", "out", "--system", "long.toml"]
    _run(plugged_in, "-m", "melody", "reproduce", "all.toml", *options, cwd=tmp_path)
    (table,) = json.loads((tmp_path / "out" / "results.json").read_text())["tables"]
    measured = {
        (cell["row"]["sampler"], cell["row"]["num_steps"]): cell["measured"]["value"]
        for cell in table["cells"]
        if cell["column"] == "passes" and cell["measured"]
    }
    # One evaluation a step for ours, two for the plug-in's, after the 25 passes of one second of tokens.
    assert measured == {("ddim", 2): 27, ("ddim", 3): 28, ("midpoint", 2): 29, ("midpoint", 3): 31}
    distances = {
        cell["row"]["system"]: cell["measured"]["value"]
        for cell in table["cells"]
        if cell["column"] == "fad" and cell["row"].get("system") in ("plucks", "long plucks") and cell["measured"]
    }
    assert set(distances) == {"plucks", "long plucks"}
    assert distances["plucks"] != distances["long plucks"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "midpoint" in page
    assert "long plucks" in page
