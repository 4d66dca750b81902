"""What a command imports, and what it does without; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("melody.cli", ["torch", "numpy", "matplotlib", "huggingface_hub"]),
        ("melody.gate.checks", ["torch", "matplotlib", "pandas"]),
        ("melody.pipeline", ["torchmetrics", "torchvision", "matplotlib", "scipy", "lightning", "diffusers"]),
        ("melody.evaluation.evaluate", ["torchvision", "scipy.signal", "lightning", "diffusers", "transformers"]),
        ("melody.reproduce.runner", ["torchvision", "scipy.signal", "lightning", "diffusers", "transformers"]),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(module: str, without: list[str]) -> None:
    loaded = set(run(f"import sys, {module}; print(*sys.modules)").split())
    assert loaded.isdisjoint(without), sorted(loaded.intersection(without))


def test_the_rest_of_torchmetrics_is_there_when_it_is_asked_for() -> None:
    said = run(
        "from melody.metrics.base import TorchMetric\n"
        "from torchmetrics import Metric, MeanMetric\n"
        "import torchmetrics\n"
        "from torchmetrics.functional.audio import signal_noise_ratio\n"
        "print(Metric is TorchMetric, issubclass(MeanMetric, TorchMetric), torchmetrics.utilities.data.__name__)\n"
    )
    assert said.split() == ["True", "True", "torchmetrics.utilities.data"]


def test_torchmetrics_imported_first_is_the_same() -> None:
    said = run(
        "import torchmetrics; from melody.metrics.base import TorchMetric; print(TorchMetric is torchmetrics.Metric)"
    )
    assert said.split() == ["True"]
