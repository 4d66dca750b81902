"""Baselines' stages train by the machinery of ours: resume, card, what a folder is bound to, clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from melody.baselines.musiclm.preset import MusicLmPreset
from melody.cli import main
from melody.config import TokenCodecStage, load_preset
from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.pipeline import load_part
from melody.protocols import TokenCodec
from melody.training.baselines import GRAPHS, MUSICLM
from melody.training.fit import fit
from melody.training.shares import Share
from melody.training.stages import StageGraph, TrainingRun, train
from melody.training.token_codec import TokenCodecTraining, perplexity

TINY = """
name = "tiny"
description = "For tests"
melody = "demo"

[codec]
use = "fourier-rvq"
num_levels = 5
codebook_size = 7
latent_dim = 4
hidden_dim = 16
encoder_layers = 1
decoder_layers = 1

[training.codec]
steps = 4
batch_size = 4
clip_s = 0.2
learning_rate = 1e-3
ema_decay = 0.9
adversarial_start = 1
discriminator_width = 2
decoder_only_from = 3
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("musiclm") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def preset(path: Path) -> MusicLmPreset:
    return load_preset(path, MusicLmPreset)


@pytest.fixture(scope="module")
def trained(preset: MusicLmPreset, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train("codec", TrainingRun(preset, tones, folder, plan=MUSICLM))
    return folder


def recipe(preset: MusicLmPreset, tones: Path, **changes: object) -> TokenCodecTraining:
    assert preset.training is not None
    torch.manual_seed(0)
    settings = TokenCodecStage.model_validate({**preset.training.codec.model_dump(), **changes})
    corpus = load_corpus(tones, split="train")
    return TokenCodecTraining(preset.build("codec"), settings, corpus, corpus)


def test_the_stage_leaves_weights_that_load_and_a_card(trained: Path, preset: MusicLmPreset) -> None:
    codec = load_part(preset, "codec", trained / "weights" / "codec.safetensors")
    assert isinstance(codec, TokenCodec)
    assert codec.encode(torch.zeros(1, 1, 960)).shape == (1, 2, 5)
    entry = json.loads((trained / "weights" / "card.json").read_text())["codec"]
    assert entry["steps"] == 4
    assert {"commitment", "stft"} <= set(entry["last_losses"])
    assert {"si_sdr_db", "si_sdr_db_of_4_levels", "perplexity_4"} <= set(entry["held_out"])
    assert 1 <= entry["held_out"]["perplexity_0"] <= 7


def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    trained: Path, preset: MusicLmPreset, tones: Path, tmp_path: Path
) -> None:
    for stop in (3, None):
        train("codec", TrainingRun(preset, tones, tmp_path, plan=MUSICLM), stop_after=stop)
    resumed, whole = (load_file(folder / "weights" / "codec.safetensors") for folder in (tmp_path, trained))
    assert set(resumed) == set(whole)
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


def test_codebooks_move_with_the_encoder_and_rest_with_it(preset: MusicLmPreset, tones: Path, tmp_path: Path) -> None:
    codebooks = []
    for stop in (1, 3, 4):
        one = recipe(preset, tones)
        fit(one, tmp_path, title="test", stop_after=stop)
        codebooks.append(one.quantizer.codebooks.clone())
    assert one.codebooks.started
    assert not torch.equal(codebooks[0], codebooks[1])
    assert torch.equal(codebooks[1], codebooks[2])
    assert torch.equal(one.trained().quantizer.codebooks, codebooks[2])  # type: ignore[union-attr]


def test_rows_draw_their_levels_and_half_of_them_all(preset: MusicLmPreset, tones: Path) -> None:
    torch.manual_seed(0)
    levels = recipe(preset, tones, batch_size=4000).draw()
    shares = torch.bincount(levels, minlength=6) / 4000
    assert shares[0] == 0
    assert shares[5] == pytest.approx(0.5 + 0.5 / 5, abs=0.03)
    assert torch.allclose(shares[1:5], torch.tensor(0.1), atol=0.02)
    assert (recipe(preset, tones, full_levels_share=1.0).draw() == 5).all()


def test_parts_of_a_batch_move_the_codebooks_as_the_whole_does(preset: MusicLmPreset, tones: Path) -> None:
    whole, parts = recipe(preset, tones), recipe(preset, tones)
    target, levels = whole.batch(0), torch.tensor([5, 5, 2, 1])
    for one, pieces in ((whole, [Share(0, 1)]), (parts, [Share(0, 2), Share(1, 2)])):
        torch.manual_seed(0)
        one.codebooks.start(one.quantizer, one.part.vectors(target).detach().flatten(0, 1))  # type: ignore[operator]
        for piece in pieces:
            one.reconstruct(target[piece.rows(4)], levels[piece.rows(4)])
        torch.manual_seed(1)
        one.after_update(0)
    torch.testing.assert_close(parts.quantizer.codebooks, whole.quantizer.codebooks)


def test_perplexity_is_how_many_entries_are_used_evenly() -> None:
    tokens = torch.tensor([[[0, 0], [1, 0]], [[2, 0], [3, 0]]])
    torch.testing.assert_close(perplexity(tokens, 8), torch.tensor([4.0, 1.0], dtype=torch.float64))


def test_another_component_in_the_folder_is_refused(
    trained: Path, preset: MusicLmPreset, tones: Path, tmp_path: Path
) -> None:
    wider = tmp_path / "wider.toml"
    wider.write_text(TINY.replace("hidden_dim = 16", "hidden_dim = 24"))
    with pytest.raises(MelodyError, match="was begun with preset 'tiny', whose component differ"):
        train("codec", TrainingRun(load_preset(wider, MusicLmPreset), tones, trained, plan=MUSICLM))


def test_a_shared_part_of_melody_is_bound_by_its_hash(preset: MusicLmPreset, tones: Path, tmp_path: Path) -> None:
    plan = StageGraph(**{**vars(MUSICLM), "shared": {"codec": ("rvq",)}})
    TrainingRun(preset, tones, tmp_path, plan=plan).bind("codec")
    assert list(json.loads((tmp_path / "codec" / "settings.json").read_text())["needs"]) == ["rvq"]
    missing = preset.model_copy(update={"melody": "paper"})
    with pytest.raises(MelodyError, match=r"rvq of MeLoDy is used as it is, but .*rvq\.safetensors is missing"):
        TrainingRun(missing, tones, tmp_path, plan=plan).bind("codec")


def test_the_command_trains_an_opponents_stage(
    path: Path, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--system", "musiclm", "--preset", str(path), "--data", str(tones), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main(["train", "codec", *arguments])
    assert ended.value.code == 0
    assert (tmp_path / "run" / "weights" / "codec.safetensors").is_file()
    for wrong, message in (
        (["train", "codex", *arguments], "unknown stage 'codex'; did you mean 'codec'"),
        (["train", "codec", "--system", "musiclmm"], "unknown system 'musiclmm' to train; did you mean 'musiclm'"),
        (["train", "codec", *arguments, "--denoiser", "dual-path"], "--denoiser was given with --system musiclm"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_every_system_that_trains_has_a_demo_with_all_stages() -> None:
    assert set(GRAPHS) == {"melody", "musiclm", "noise2music"}
    for graph in GRAPHS.values():
        training = load_preset("demo", graph.preset_type).training  # type: ignore[attr-defined]
        assert all(getattr(training, stage) is not None for stage in graph.parts)
        assert set(graph.parts) == set(graph.needs) == set(graph.recipes)
