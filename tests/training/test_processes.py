"""Real processes: two that train together over gloo, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from melody.config import Preset
from melody.training.stages import TrainingRun, train

HERE = Path(__file__).parent
KILLED = """
import os, signal, sys
from pathlib import Path
from melody.config import load_preset
from melody.training import fit
from melody.training.recipe import Recipe
from melody.training.stages import TrainingRun, train

def record(recipe, step, known=Recipe.record):
    known(recipe, step)
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)

fit.CHECKPOINT_EVERY_S = 0.0
Recipe.record = record
preset, data, out = sys.argv[1:]
train("vae", TrainingRun(load_preset(preset), data, Path(out)))
"""


def environment(**more: str) -> dict[str, str]:
    root = str(HERE.parents[1])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


def state(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(folder / stage / "last.ckpt", weights_only=True)["state_dict"]
    return loaded


@pytest.fixture(scope="module")
def pair(even_path: Path, tones: Path, tone_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave, each with half of every batch, started by torchrun's variables."""
    out = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(HERE / "two_processes.py"), str(even_path), str(tones)]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            [*command, str(tone_run / "weights"), str(out)],
            env=environment(RANK=rank, LOCAL_RANK=rank, MASTER_PORT=port, TORCHELASTIC_RUN_ID="test", **shared),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return out


@pytest.mark.parametrize(("strategy", "stage"), [("auto", "joint"), ("ddp", "vae"), ("ddp", "dpd"), ("fsdp", "dpd")])
def test_two_processes_equal_one_with_twice_the_batch(pair: Path, tone_run: Path, strategy: str, stage: str) -> None:
    one, two = state(tone_run, stage), state(pair / strategy, stage)
    assert set(one) == set(two)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-5, msg=f"{stage} {name}")
    assert int(two["completed"]) == 4


def test_the_main_process_alone_writes_history_and_card(pair: Path, tone_run: Path) -> None:
    for strategy, stage, part in (("auto", "joint", "joint_embedder"), ("fsdp", "dpd", "denoiser")):
        rows, expected = (
            [json.loads(line) for line in (folder / stage / "history.jsonl").read_text().splitlines()]
            for folder in (pair / strategy, tone_run)
        )
        assert [row["step"] for row in rows] == [0, 1, 2, 3]
        assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in expected], rel=1e-4)
        assert set(json.loads((pair / strategy / "weights" / "card.json").read_text())) == {part}


def test_a_checkpoint_of_shards_holds_the_moments_too(pair: Path, tone_run: Path) -> None:
    """So that a run goes on under another strategy, or with another number of processes."""
    one, two = (_moments(folder) for folder in (tone_run, pair / "fsdp"))
    assert len(one) == len(two) > 0
    for expected, state in zip(one, two, strict=True):
        for name, tensor in expected.items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-6, msg=name)


def _moments(run: Path) -> list[dict[str, torch.Tensor]]:
    """AdamW's state of each parameter of the denoiser, in the order of the optimiser's groups."""
    (optimizer,) = torch.load(run / "dpd" / "last.ckpt", weights_only=True)["optimizer_states"]
    return [optimizer["state"][number] for group in optimizer["param_groups"] for number in group["params"]]


def test_a_run_that_was_killed_ends_with_the_same_weights(
    even_path: Path, even_preset: Preset, tones: Path, tone_run: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(even_path), str(tones), str(tmp_path)]
    killed = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert int(state(tmp_path, "vae")["completed"]) == 2
    train("vae", TrainingRun(even_preset, tones, tmp_path))
    resumed, whole = state(tmp_path, "vae"), state(tone_run, "vae")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
