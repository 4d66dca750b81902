"""``melody export``: a run's weights, one part, and checkpoints become model files; what does not fit is refused."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from melody.artifacts.pretrained import write_config
from melody.cli import main
from melody.config import Preset, load_preset
from melody.errors import MelodyError
from melody.pipeline import MelodyPipeline, build_part
from melody.protocols import Codec, Denoiser
from melody.tensor_names import installed_names
from melody.training import stages
from melody.training.export import export
from melody.training.stages import TrainingRun, train


@pytest.fixture(scope="module")
def run(tiny_preset: Preset, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stages vae (no moving average), semantic and dpd (with one) stopped after three of four steps."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny_weights, folder / "weights")
    load_corpus = stages.load_corpus
    stages.load_corpus = lambda data, split, **more: load_corpus(data, split=split, num_clips=4, **more)
    try:
        for stage in ("vae", "semantic", "dpd"):
            train(stage, TrainingRun(tiny_preset, "embedded", folder), stop_after=3)
    finally:
        stages.load_corpus = load_corpus
    return folder


def _state(run: Path, stage: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / stage / "last.ckpt", weights_only=True)["state_dict"]
    return state


def test_a_runs_weights_become_a_whole_pipeline(run: Path, tiny_preset: Preset, tmp_path: Path) -> None:
    lines = export(run, tmp_path / "out")
    assert len(lines) == 6
    assert lines[0].startswith("joint_embedder: ")
    pipeline = MelodyPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.preset == tiny_preset
    assert torch.isfinite(pipeline("a waltz", duration_s=0.5).waveform).all()


def test_a_checkpoint_gives_its_weights(run: Path, tmp_path: Path) -> None:
    (line,) = export(run / "vae" / "last.ckpt", tmp_path / "out", dtype="float32")
    assert line.endswith("from the weights at step 3")
    saved, state = load_file(tmp_path / "out" / "codec.safetensors"), _state(run, "vae")
    assert all(torch.equal(tensor, state[f"part.{name}"]) for name, tensor in saved.items())
    Codec.from_pretrained(tmp_path / "out")


def test_checkpoints_have_our_names_and_one_with_the_librarys_is_exported_and_gone_on_from(
    run: Path, tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As checkpoints were before; ``part.`` and ``average.`` alike."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    path = copy / "semantic" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    names = {f"{prefix}.model.blocks.0.attention.query.weight" for prefix in ("part", "average")}
    assert names <= content["state_dict"].keys()
    installed = installed_names(build_part(tiny_preset, "semantic_tokenizer"))
    theirs = {f"{p}.{ours}": f"{p}.{name}" for p in ("part", "average") for ours, name in installed.items()}
    content["state_dict"] = {theirs.get(name, name): tensor for name, tensor in content["state_dict"].items()}
    assert not names & content["state_dict"].keys()
    torch.save(content, path)
    load_corpus = stages.load_corpus
    monkeypatch.setattr(
        stages, "load_corpus", lambda data, split, **more: load_corpus(data, split=split, num_clips=4, **more)
    )
    for folder in (run, copy):
        shutil.copytree(folder, tmp_path / "again" / folder.name)
        (tmp_path / "again" / folder.name / "weights" / "semantic_tokenizer.safetensors").unlink()
        train("semantic", TrainingRun(tiny_preset, "embedded", tmp_path / "again" / folder.name))
    one, other = (
        load_file(tmp_path / "again" / folder.name / "weights" / "semantic_tokenizer.safetensors")
        for folder in (run, copy)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_stages_folder_gives_the_moving_average_where_there_is_one(run: Path, tmp_path: Path) -> None:
    (line,) = export(run / "dpd", tmp_path / "out", dtype="float32")
    assert line.endswith("from the moving average at step 3")
    saved, state = load_file(tmp_path / "out" / "denoiser.safetensors"), _state(run, "dpd")
    assert all(torch.equal(tensor, state[f"average.{name}"]) for name, tensor in saved.items())
    assert any(not torch.equal(tensor, state[f"part.{name}"]) for name, tensor in saved.items())
    Denoiser.from_pretrained(tmp_path / "out")


def test_one_part_comes_from_its_weights_or_else_from_the_checkpoint(run: Path, tmp_path: Path) -> None:
    (line,) = export(run, tmp_path / "finished", part="codec")
    assert line.endswith("from its weights")
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "weights" / "codec.safetensors").unlink()
    (line,) = export(copy, tmp_path / "unfinished", part="codec")
    assert line.endswith("from the weights at step 3")
    with pytest.raises(MelodyError, match=r"weights lacks codec: train the stages vae first, or export one part"):
        export(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfitted_tokenizer_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="gets its codebook at its stage's end; finish it first"):
        export(run / "semantic", tmp_path / "out")


def test_another_presets_checkpoint_names_both(run: Path, tmp_path: Path) -> None:
    message = "was trained with preset 'tiny', whose codec differs from that of 'demo'"
    with pytest.raises(MelodyError, match=message):
        export(run / "vae", tmp_path / "out", preset=load_preset("demo"))


def test_a_checkpoint_with_code_or_damage_is_not_opened(run: Path, tiny_preset: Preset, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (canary,)

    write_config(tmp_path, tiny_preset.tables())
    (tmp_path / "vae").mkdir()
    checkpoint = tmp_path / "vae" / "last.ckpt"
    whole = (run / "vae" / "last.ckpt").read_bytes()
    for content in (pickle.dumps({"state_dict": Bomb()}, protocol=2), whole[:-1000], b""):
        checkpoint.write_bytes(content)
        with pytest.raises(MelodyError, match=r"checkpoint .*last\.ckpt cannot be read"):
            export(checkpoint, tmp_path / "out")
    torch.save({"state_dict": {"weight": torch.ones(1)}}, checkpoint)
    with pytest.raises(MelodyError, match="is no checkpoint of a training stage"):
        export(checkpoint, tmp_path / "out")
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_nan_in_a_checkpoint_is_named(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    content = torch.load(copy / "vae" / "last.ckpt", weights_only=True)
    content["state_dict"]["part.decoder_input.bias"].fill_(float("nan"))
    torch.save(content, copy / "vae" / "last.ckpt")
    with pytest.raises(MelodyError, match=r"last\.ckpt: tensor 'decoder_input\.bias' holds NaN or infinity"):
        export(copy / "vae", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "there is no run or checkpoint absent"),
        (["."], ". does not tell its preset: name it with --preset"),
        ([".", "--preset", "demo"], "lacks joint_embedder, rvq"),
        ([".", "--preset", "demo", "--part", "denoiser"], ". has neither denoiser.safetensors nor a checkpoint"),
        ([".", "--part", "denoisr"], "unknown part 'denoisr'; did you mean 'denoiser'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["export", *arguments, "--out", "out"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []
