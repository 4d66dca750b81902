from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from melody.artifacts import provenance
from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline
from melody.reproduce.run_inputs import RunRequest
from melody.reproduce.subject import preset_context, preset_subject


def test_subject_names_the_weights_as_the_pipeline_does(tiny_path: Path, tiny_weights: Path) -> None:
    subject = preset_subject(tiny_path, tiny_weights, "cpu")
    pipeline = MelodyPipeline.from_preset(tiny_path, weights=tiny_weights)
    assert subject.weights == pipeline.weights_hash
    assert subject.denoiser == "dual-path"
    assert type(subject.load().denoiser) is type(pipeline.denoiser)


def test_other_weights_are_another_subject(tiny_path: Path, tiny_weights: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_weights, tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "rvq.safetensors", tmp_path / "kept")
    content = bytearray((tmp_path / "rvq.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "rvq.safetensors").write_bytes(content)
    before, after = (preset_subject(tiny_path, folder, "cpu") for folder in (tiny_weights, tmp_path))
    assert before.facts == after.facts
    assert before.weights != after.weights


def test_weights_that_change_after_planning_are_refused(tiny_path: Path, tiny_weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_weights, tmp_path, dirs_exist_ok=True)
    subject = preset_subject(tiny_path, tmp_path, "cpu")
    tensors = load_file(tmp_path / "rvq.safetensors")
    with (tmp_path / "rvq.safetensors").open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    metadata = json.loads(header).get("__metadata__")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / "rvq.safetensors", metadata)
    with pytest.raises(MelodyError, match=f"the weights in {tmp_path} changed during the run"):
        subject.load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"request": RunRequest(seed=-1)}, "seed is -1"),
        ({"request": RunRequest(device="gpu")}, "unknown device 'gpu'"),
        ({"published_samples": Path("nowhere")}, "no folder of published samples: nowhere"),
        ({"weights": Path("nowhere")}, "there is no folder nowhere; expected a folder with model files, or a hub id"),
        ({"weights": Path(__file__).parent}, "lacks weights in .*: joint_embedder.safetensors"),
    ],
)
def test_bad_input_is_one_line(tiny_path: Path, tiny_weights: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message) as raised:
        preset_context(tiny_path, **{"weights": tiny_weights, **options})  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_published_samples_may_come_from_the_environment(
    tiny_path: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELODY_PUBLISHED_SAMPLES", str(tmp_path))
    assert preset_context(tiny_path, weights=tiny_weights).inputs.published_samples == tmp_path


def test_absent_distributions_are_recorded_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DECIDING", ("torch", "no-such-distribution"))
    decided = provenance.deciding_versions()
    assert decided["no-such-distribution"] == "absent"
    assert decided["torch"] == provenance.versions()["torch"]
