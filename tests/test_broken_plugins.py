"""Plug-ins that fail in every way that can be caught: each is a line of its own, and everything else goes on."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

import melody
from melody.cli import main
from melody.errors import MelodyError
from melody.plugins import contained
from melody.registry import REGISTRIES, metrics

AT_IMPORT = {
    "exits": "raise SystemExit(0)",
    "interrupts": "raise KeyboardInterrupt",
    "base": "class Own(BaseException): pass\nraise Own('mine')",
    "no_text": "class Mute(Exception):\n    def __str__(self): raise SystemExit\nraise Mute",
    "closes": "import sys\nsys.stdout.close()\nsys.stderr.close()\nsys.__stdout__.close()\nraise ValueError('closed')",
    "closes_files": "import os\nos.close(1)\nos.close(2)\nraise ValueError('closed both')",
    "replaces": "import sys\nsys.stdout = None\nraise ValueError('none')",
    "not_python": "def (:",
}
METRIC = """
import torch, torchmetrics
from melody.protocols import Metric
class M(torchmetrics.Metric, Metric):
    \"\"\"A metric.\"\"\"
    version = "1"
    direction = "none"
    unit = ""
    input_kind = "waveforms"
    full_state_update = False
    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
    def update(self, waveform): self.total += waveform.double().sum().float() ** 2
    def compute(self): return self.total
"""
METRICS = {
    "no_version": "del M.version",
    "bad_direction": "M.direction = 3",
    "bad_unit": "M.unit = None",
    "bad_input": "M.input_kind = 'sounds'",
    "no_compute": "M = type('M', (Metric,), dict(version='1', direction='none'))",
    "needs_argument": "class M(M):\n    def __init__(self, size: int): super().__init__()",
    "odd_annotation": "class M(M):\n    def __init__(self, size: 'Nowhere' = 1): super().__init__()",
    "metaclass": "class Odd(type(M)):\n    def __getattribute__(cls, name):\n"
    "        if name in ('__doc__', 'version'): raise SystemExit\n        return super().__getattribute__(name)\n"
    "class M(M, metaclass=Odd): pass",
}
LATER = {
    "constructor": "class M(M):\n    def __init__(self): raise SystemExit",
    "update_exits": "class M(M):\n    def update(self, waveform): raise SystemExit",
    "compute_text": "class M(M):\n    def compute(self): return 'much'",
    "update_of_sets": "class M(M):\n    input_kind = 'embeddings'\n    needs_reference = False\n"
    "    def update(self, embeddings, real): raise SystemExit",
}
GOOD = {"good": ""}
EMBEDDER = """
from melody.protocols import AudioEmbedder
class M(AudioEmbedder):
    \"\"\"An embedder.\"\"\"
    version = "1"
    sample_rate, dimension, window_s, hop_s = 8000, 2, 1.0, 1.0
    def embed(self, waveform): return waveform[:2][None]
"""
EMBEDDERS = {
    "embed_exits": "class M(M):\n    def embed(self, waveform): raise SystemExit(0)",
    "embed_interrupts": "class M(M):\n    def embed(self, waveform): raise KeyboardInterrupt",
    "identity_exits": "class M(M):\n    def identity(self): raise SystemExit(0)",
}


def distribution(site: Path, name: str, lines: list[str]) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All of them installed: one distribution of samplers, and one of metrics."""
    site = tmp_path / "site"
    site.mkdir()
    for name, code in AT_IMPORT.items():
        (site / f"bp_{name}.py").write_text(code + "\n")
    for name, code in {**METRICS, **LATER, **GOOD}.items():
        (site / f"bp_{name}.py").write_text(f"{METRIC}\n{code}\n")
    for name, code in EMBEDDERS.items():
        (site / f"bp_{name}.py").write_text(f"{EMBEDDER}\n{code}\n")
    lists = {
        "no-vectors": ["[melody.audio_embedders]", *(f"{name} = bp_{name}:M" for name in EMBEDDERS)],
        "falls-over": ["[melody.samplers]", *(f"{name} = bp_{name}:M" for name in AT_IMPORT)],
        "no-metrics": ["[melody.metrics]", *(f"{name} = bp_{name}:M" for name in {**METRICS, **LATER, **GOOD})],
    }
    for name, lines in lists.items():
        distribution(site, name, lines)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    for one in REGISTRIES.values():
        monkeypatch.setattr(one, "_plugins", None)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("bp_")]:
        del sys.modules[name]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    code = done.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(("kind", "names"), [("samplers", AT_IMPORT), ("metrics", METRICS)])
def test_each_failure_is_a_line_and_the_rest_goes_on(
    plugged: Path, capfd: pytest.CaptureFixture[str], kind: str, names: dict[str, str]
) -> None:
    assert run("components", kind) == 0
    out, err = capfd.readouterr()
    distribution = {"samplers": "falls-over", "metrics": "no-metrics"}[kind]
    for name in names:
        [line] = [line for line in err.splitlines() if f"{name!r} from " in line]
        assert f"from {distribution} (bp_{name}:M) cannot be used: " in line
    assert {"samplers": "ddim", "metrics": "good"}[kind] in out
    assert sys.stdout.writable()
    os.fstat(1)


def test_asked_for_by_name_it_is_one_line(plugged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in AT_IMPORT:
        assert run("describe", "samplers", name) == 2
        assert len(capfd.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(MelodyError, match="from no-metrics .* direction is 3: expected 'lower', 'higher' or 'none'"):
        metrics.get("bad_direction")
    with pytest.raises(MelodyError, match="argument 'size' has no default"):
        metrics.get("needs_argument")
    with pytest.raises(MelodyError, match="'constructor' from no-metrics .* cannot be built: SystemExit"):
        metrics.create("constructor")


def test_an_unreadable_list_of_entry_points_hides_no_other(plugged: Path) -> None:
    metrics.names()  # other packages that read such lists are imported before this one is there
    metrics._plugins = None
    distribution(plugged / "site", "garbled", ["[melody.metrics]", "no equals sign"])
    importlib.invalidate_caches()
    entries = {entry.name: entry for entry in metrics.entries()}
    assert entries["good"].error is None
    assert "entry points cannot be read" in str(entries["garbled"].error)


def test_a_default_evaluation_leaves_them_out_and_says_so(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plugged)
    for folder in ("ours", "theirs"):
        Path(folder).mkdir()
        for place in range(3):
            rng = np.random.default_rng(place)
            soundfile.write(f"{folder}/{place}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    result = melody.evaluate("ours", reference="theirs", metrics=None, skip_bad=True)
    measured = {score.metric for score in result.scores}
    assert {"good", "peak"} <= measured
    assert not measured & {*METRICS, *LATER}
    notes = "\n".join(result.notes)
    for name in (*METRICS, *LATER):
        assert name in notes
    with pytest.raises(MelodyError, match="update_of_sets"):
        melody.evaluate("ours", reference="theirs", metrics=["update_of_sets"])


def test_check_plugin_says_what_holds_and_ends_with_1_if_something_does_not(
    plugged: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kind = ("--kind", "metrics")
    assert run("check-plugin", "good", *kind) == 1  # it takes NaN, which a metric must refuse
    out = capfd.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("fails")] == [
        "fails    it refuses NaN with MelodyError: update and compute take it"
    ]
    assert "holds    two halves merge to the whole" in out
    assert run("check-plugin", "peak", *kind) == 0
    assert "fails" not in capfd.readouterr().out
    for name in (*METRICS, *LATER):
        assert run("check-plugin", name, *kind) == 1, name
    assert "fails    it computes one finite number" in capfd.readouterr().out
    assert run("check-plugin", "peek", *kind) == 2
    assert "did you mean 'peak'" in capfd.readouterr().err


@pytest.mark.parametrize(("kind", "name"), [
    ("samplers", "ddim"), ("samplers", "unipc"), ("samplers", "ancestral"), ("grids", "karras"),
    ("metrics", "fad"), ("metrics", "mcc"), ("metrics", "kl"), ("metrics", "si-sdr"), ("metrics", "recall-at-1"),
    ("audio_embedders", "mel-stats"), ("codecs", "fourier-vae"), ("token_codecs", "fourier-rvq"),
    ("language_models", "llama:num_layers=1,hidden_size=16,num_heads=2,feed_forward_size=16"),
    ("denoisers", "dual-path:num_blocks=1,merge_widths=8,hidden_size=16,num_heads=2,feed_forward_size=16"),
    ("systems", "folder"),
])  # fmt: skip
def test_our_own_components_pass(capfd: pytest.CaptureFixture[str], kind: str, name: str) -> None:
    from melody.conformance import candidates, run_checks
    from melody.registry import parse_component

    plain, arguments = parse_component(name)
    given: dict[str, object] = {**arguments}
    if "merge_widths" in given:
        given["merge_widths"] = [8]
    [(one, entry)] = candidates(plain, kind)
    results = list(run_checks(one, entry, given))
    assert not [result for result in results if result.state == "fails"]
    assert len([result for result in results if result.state == "holds"]) >= 2


def test_a_real_interrupt_stays_one_even_if_it_is_swallowed() -> None:
    import signal
    import time

    def swallow() -> None:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt), contained():
        swallow()
    with pytest.raises(MelodyError, match="KeyboardInterrupt"), contained():
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", EMBEDDERS)
def test_an_embedder_that_ends_the_process_is_one_line(plugged: Path, name: str) -> None:
    """Its exit with 0 would have been the command's, with nothing measured."""
    (plugged / "ours").mkdir()
    soundfile.write(plugged / "ours" / "a.wav", np.full(16_000, 0.1), 16_000)
    with pytest.raises(MelodyError, match=name):
        melody.evaluate(plugged / "ours", reference=plugged / "ours", allow_overlap=True, metrics=["fad"],
                        embedders=[name], store=plugged / "store")  # fmt: skip
