"""Not a test: what each of two processes runs in ``test_processes.py``, started as torchrun starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from melody.config import load_preset
from melody.training.hardware import Hardware
from melody.training.stages import TrainingRun, train


def main(preset: str, data: str, weights: str, out: str) -> None:
    loaded = load_preset(preset)
    for stage, strategy in (("joint", "auto"), ("vae", "ddp"), ("dpd", "ddp"), ("dpd", "fsdp")):
        hardware = Hardware("cpu", devices=2, strategy=strategy)
        run = TrainingRun(loaded, data, Path(out) / strategy, hardware, weights=Path(weights))
        if strategy == "fsdp":  # killed in the middle, as it were
            train(stage, run, stop_after=2)
        train(stage, run)


if __name__ == "__main__":
    main(*sys.argv[1:])
