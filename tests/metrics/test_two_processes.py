"""Two real processes, one of which is given no generated audio for some metrics, and one process: one number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from melody.metrics.density_coverage import Coverage
from melody.metrics.fad_infinity import FrechetInfinity
from melody.metrics.frechet import FrechetDistance
from melody.metrics.kernel_distance import KernelDistance
from melody.metrics.precision_recall import Recall
from melody.metrics.retrieval import RecallAt5


def results(ranks: int, rank: int) -> dict[str, float]:
    """Every metric's number, from this rank's share of the clips; rank 1 gets reference clips only."""
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(3 + i % 4, 6, generator=generator) + (i % 2) * 0.3 for i in range(24)]
    kept: list[Any] = [FrechetInfinity(dimension=6, draws=2), *(kind(6) for kind in (KernelDistance, Coverage, Recall))]
    sums, pairs = FrechetDistance(dimension=6), RecallAt5()
    for index, clip in enumerate(clips):
        if index // 2 % ranks == rank:
            sums.update(clip, real=index % 2 == 0)
        if ranks == 1 or index % 2 != rank:
            for metric in kept:
                metric.update(clip, real=index % 2 == 0)
    if rank == 0:  # and rank 1 has no pair at all
        pairs.update(torch.cat(clips), torch.cat(clips[::-1]))
    return {type(metric).__name__: float(metric.compute()) for metric in (sums, pairs, *kept)}


def main(folder: str, rank: int) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    Path(folder, f"{rank}.json").write_text(json.dumps(results(2, rank)))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_two_processes_give_the_number_of_one(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    expected = results(1, 0)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(expected, rel=1e-9)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
