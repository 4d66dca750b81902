"""Every stage trains, saves, resumes to the same weights, and refuses what does not fit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from melody import registry
from melody.config import Component, Preset, load_preset, with_changes
from melody.data.loading import whole_corpora
from melody.data.shards import write_shards
from melody.errors import MelodyError
from melody.pipeline import PARTS, MelodyPipeline, load_part
from melody.protocols import Denoiser
from melody.training import features, stages
from melody.training import fit as fitting
from melody.training.lm import LanguageModelling, TokenData
from melody.training.recipe import Recipe
from melody.training.stages import STAGES, TrainingRun, train, with_settings


def _twelve(load_corpus, data, split, **more):  # type: ignore[no-untyped-def]
    return load_corpus(data, split=split, num_clips=12 if data == "embedded" else None, **more)


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve clips of the embedded corpus instead of all."""
    load_corpus = stages.load_corpus
    monkeypatch.setattr(stages, "load_corpus", lambda data, split, **more: _twelve(load_corpus, data, split, **more))


@pytest.fixture(scope="module")
def trained(tiny_preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all six stages trained."""
    folder = tmp_path_factory.mktemp("run")
    load_corpus = stages.load_corpus
    stages.load_corpus = lambda data, split, **more: _twelve(load_corpus, data, split, **more)
    try:
        train("all", TrainingRun(tiny_preset, "embedded", folder))
    finally:
        stages.load_corpus = load_corpus
    return folder


def test_all_stages_leave_weights_that_a_pipeline_loads(trained: Path, tiny_preset: Preset) -> None:
    pipeline = MelodyPipeline.from_preset(tiny_preset, weights=trained / "weights")
    assert torch.isfinite(pipeline("a slow piano piece").waveform).all()


def test_the_card_tells_data_steps_seed_losses_and_held_out_figures(trained: Path) -> None:
    card = json.loads((trained / "weights" / "card.json").read_text())
    assert set(card) == set(PARTS)
    for part, entry in card.items():
        assert entry["data"]["name"] == "embedded/train"
        assert entry["data"]["train_clips"] == 12
        assert entry["held_out"]
        assert all(math.isfinite(value) for value in entry["held_out"].values())
        assert part == "rvq" or (entry["steps"] == 4 and entry["last_losses"]["loss"] > 0)
    assert {part for part in PARTS if "words" in card[part]} == {"joint_embedder"}
    assert {"waltz", "ballad", "drums"} <= set(card["joint_embedder"]["words"])
    text = (trained / "weights" / "CARD.md").read_text()
    assert all(part in text for part in PARTS)


def test_the_adversarial_terms_begin_when_they_should(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "vae" / "history.jsonl").read_text().splitlines()]
    assert ["discriminator" in row for row in rows] == [False, False, True, True]


@pytest.mark.parametrize("stage", ["joint", "semantic", "vae", "dpd"])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    trained: Path, tiny_preset: Preset, tmp_path: Path, stage: str
) -> None:
    (tmp_path / "weights").mkdir()
    for part in PARTS:
        if part != STAGES[stage]:
            (tmp_path / "weights" / f"{part}.safetensors").symlink_to(trained / "weights" / f"{part}.safetensors")
    run = TrainingRun(tiny_preset, "embedded", tmp_path)
    train(stage, run, stop_after=3)
    assert not run.weights_path(STAGES[stage]).exists()
    train(stage, run)
    resumed, whole = (load_file(folder / "weights" / f"{STAGES[stage]}.safetensors") for folder in (tmp_path, trained))
    assert set(resumed) == set(whole)
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize("stage", ["joint", "vae"])
def test_ctrl_c_in_the_middle_keeps_the_last_checkpoint_and_the_rest_ends_alike(
    trained: Path, tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    run = TrainingRun(tiny_preset, "embedded", tmp_path)
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "record", _interrupt_at_step_2)
        with pytest.raises(KeyboardInterrupt):
            train(stage, run)
    assert not run.weights_path(STAGES[stage]).exists()
    train(stage, run)
    resumed, whole = (load_file(folder / "weights" / f"{STAGES[stage]}.safetensors") for folder in (tmp_path, trained))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def _interrupt_at_step_2(recipe: Recipe, step: int) -> None:
    recipe.history.append({"step": step})
    if step == 2:
        raise KeyboardInterrupt


def test_a_stage_without_what_it_needs_names_the_stage(tiny_preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="stage 'joint' must be trained first: .*melody train joint"):
        train("rvq", TrainingRun(tiny_preset, "embedded", tmp_path))


def test_a_folder_begun_with_other_settings_is_refused(trained: Path, tiny_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(
        tiny_path.read_text().replace('name = "tiny"', 'name = "other"').replace("window_s = 1.0", "window_s = 0.9")
    )
    with pytest.raises(
        MelodyError, match="was begun with preset 'tiny', whose preset and component differ from those of 'other'"
    ):
        train("joint", TrainingRun(load_preset(other), "embedded", trained))


def test_a_finished_run_is_lengthened_in_its_folder(tiny_preset: Preset, tmp_path: Path) -> None:
    run = TrainingRun(tiny_preset, "embedded", tmp_path)
    train("joint", run)
    with pytest.raises(MelodyError, match="whose settings differ"):
        train("joint", TrainingRun(with_settings(tiny_preset, steps=6), "embedded", tmp_path))
    with pytest.raises(MelodyError, match="whose settings differ"):
        train("joint", TrainingRun(with_settings(tiny_preset, steps=6, restart_at=4, seed=1), "embedded", tmp_path))
    longer = with_settings(tiny_preset, steps=6, restart_at=4)
    train("joint", TrainingRun(longer, "embedded", tmp_path))
    card = json.loads((tmp_path / "weights" / "card.json").read_text())
    assert card["joint_embedder"]["steps"] == 6
    rows = [json.loads(line) for line in (tmp_path / "joint" / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(6))
    with pytest.raises(MelodyError, match="whose settings differ"):
        train("joint", run)


def test_what_is_finished_is_not_made_again(
    trained: Path, tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    begun = []
    for stage in STAGES:
        monkeypatch.setitem(stages.MELODY.recipes, stage, lambda run, stop, stage=stage: begun.append(stage))
    monkeypatch.setattr(stages, "_leave", lambda *_: None)
    run = TrainingRun(tiny_preset, "embedded", tmp_path / "run")
    train("all", run)
    assert begun == []
    (tmp_path / "run" / "weights" / "denoiser.safetensors").unlink()
    train("all", run)
    assert begun == ["dpd"]


def test_the_card_of_one_held_out_clip_is_json(tone_run: Path) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    card = json.loads((tone_run / "weights" / "card.json").read_text(), parse_constant=refuse)
    assert card["joint_embedder"]["held_out"]["pairs"] == 1


def test_other_wordings_are_embedded_again(tiny_preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lengths(torch.nn.Module):
        def embed_text(self, texts: list[str]) -> torch.Tensor:
            return torch.tensor([[float(len(text))] for text in texts])

    corpus = stages.load_corpus("embedded", split="train")
    first = features.wording_embeddings(corpus, Lengths(), 10.0, "x")  # type: ignore[arg-type]
    known = features.further_captions
    monkeypatch.setattr(features, "further_captions", lambda clip: tuple(f"{text}!" for text in known(clip)))
    other = features.wording_embeddings(corpus, Lengths(), 10.0, "x")  # type: ignore[arg-type]
    assert torch.equal(other[:, :2], first[:, :2])
    assert torch.equal(other[:, 2:], first[:, 2:] + 1)


def test_unknown_stage_names_the_nearest(tiny_preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="unknown stage 'lmm'; did you mean 'lm'"):
        train("lmm", TrainingRun(tiny_preset, "embedded", tmp_path))


def test_a_damaged_checkpoint_is_named(tiny_preset: Preset, tmp_path: Path) -> None:
    run = TrainingRun(tiny_preset, "embedded", tmp_path)
    train("joint", run, stop_after=1)
    checkpoint = tmp_path / "joint" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(MelodyError, match=r"checkpoint .*last\.ckpt cannot be read"):
        train("joint", run)


def test_losses_that_are_not_finite_stop_the_run(
    tiny_preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melody.training.joint import Joint

    monkeypatch.setattr(Joint, "losses", lambda self, batch: {"loss": torch.full((), math.nan, requires_grad=True)})
    with pytest.raises(MelodyError, match="Joint: loss is nan at step 0"):
        train("joint", TrainingRun(tiny_preset, "embedded", tmp_path))
    assert (tmp_path / "joint" / "nonfinite-step-0.safetensors").is_file()


def test_settings_that_came_later_do_not_end_an_older_run(tiny_preset: Preset, tmp_path: Path) -> None:
    run = TrainingRun(tiny_preset, "embedded", tmp_path)
    train("joint", run, stop_after=1)
    path = tmp_path / "joint" / "settings.json"
    content = json.loads(path.read_text())
    for name in ("precision", "accumulate", "validate_every"):
        del content["settings"][name]
    path.write_text(json.dumps(content))
    train("joint", run, stop_after=2)
    with pytest.raises(MelodyError, match="was begun with preset 'tiny', whose settings differ"):
        train("joint", TrainingRun(with_settings(tiny_preset, accumulate=3), "embedded", tmp_path), stop_after=3)


def test_a_run_from_before_a_setting_goes_on_only_with_what_was_done_then(tiny_preset: Preset, tmp_path: Path) -> None:
    """Losses were means, samples were not mapped: a preset that keeps this goes on, one that sums is refused."""
    assert tiny_preset.training is not None
    codec = tiny_preset.training.vae.model_copy(update={"reduction": "mean", "map_samples": False})
    training = tiny_preset.training.model_copy(update={"vae": codec})
    as_then = tiny_preset.model_copy(update={"training": training})
    train("vae", TrainingRun(as_then, "embedded", tmp_path), stop_after=1)
    path = tmp_path / "vae" / "settings.json"
    content = json.loads(path.read_text())
    for name in ("reduction", "map_samples"):
        del content["settings"][name]
    path.write_text(json.dumps(content))
    with pytest.raises(MelodyError, match="was begun with preset 'tiny', whose settings differ"):
        train("vae", TrainingRun(tiny_preset, "embedded", tmp_path), stop_after=2)
    train("vae", TrainingRun(as_then, "embedded", tmp_path))
    begun: list[str] = []
    card = tmp_path / "weights" / "card.json"
    entries = json.loads(card.read_text())
    for name in ("reduction", "map_samples"):
        del entries["codec"]["settings"][name]
    card.write_text(json.dumps(entries))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "fit", lambda *given, **named: begun.append("again"))
        train("vae", TrainingRun(as_then, "embedded", tmp_path))
    assert begun == []  # finished, by its card


def spoil(tones: Path, folder: Path) -> Path:
    """The tones, with four files that cannot be trained on."""
    shutil.copytree(tones, folder)
    (folder / "text.wav").write_text("not a sound")
    soundfile.write(folder / "mute.wav", np.zeros(0), 24_000)
    shutil.copy(folder / "3.wav", folder / "again.wav")
    soundfile.write(folder / "short.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 24_000)
    (folder / "short.flac").write_bytes((folder / "short.flac").read_bytes()[:40_000])
    with (folder / "metadata.csv").open("a") as file:
        file.writelines(
            f"{name},spoilt,x\n" for name in ("text.wav", "mute.wav", "again.wav", "short.flac", "gone.wav")
        )
    return folder


def test_files_that_cannot_be_used_are_told_by_name_and_left_out(
    tiny_preset: Preset, tones: Path, tmp_path: Path
) -> None:
    run = TrainingRun(tiny_preset, spoil(tones, tmp_path / "data"), tmp_path / "run")
    assert len(run.train_corpus) + len(run.validation_corpus) == 20
    counted, *told = run.left_out()
    assert counted.startswith("5 files of")
    reasons = {line.partition(": ")[0]: line for line in told}
    assert set(reasons) == {"text.wav", "mute.wav", "again.wav", "short.flac", "gone.wav"}
    assert "is empty: 0 samples" in reasons["mute.wav"]
    assert "the same content as 3.wav" in reasons["again.wav"]
    train("vae", run)
    card = json.loads((tmp_path / "run" / "weights" / "card.json").read_text())
    assert {fault["file"] for fault in card["codec"]["data"]["left_out"]} == set(reasons)
    assert "5 files left out (text.wav, " in (tmp_path / "run" / "weights" / "CARD.md").read_text()


def test_strict_refuses_such_a_corpus(tiny_preset: Preset, tones: Path, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="5 files of .* cannot be used: text.wav, mute.wav, again.wav …; without"):
        TrainingRun(tiny_preset, spoil(tones, tmp_path / "data"), tmp_path / "run", strict=True)


def test_a_corpus_without_one_good_file_is_refused(tiny_preset: Preset, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,x\nb.wav,y\n")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(MelodyError, match="none of the 2 files of .* can be used: cannot read audio .*a.wav"):
        TrainingRun(tiny_preset, tmp_path, tmp_path / "run")


def test_training_from_shards_is_training_from_the_folder(
    even_preset: Preset, tones: Path, tone_run: Path, tmp_path: Path
) -> None:
    write_shards(whole_corpora(str(tones)), tmp_path / "shards", shard_bytes=300_000)
    run = TrainingRun(even_preset, tmp_path / "shards", tmp_path / "run")
    train("vae", run, stop_after=2)
    train("vae", run)
    one, other = (load_file(folder / "weights" / "codec.safetensors") for folder in (tone_run, tmp_path / "run"))
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())


class ZeroDenoiser(torch.nn.Module, Denoiser):
    """Predicts nothing, and learns it."""

    def __init__(self, latent_dim: int = 9) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.gain = torch.nn.Parameter(torch.zeros(latent_dim))

    def prepare(self, semantic_tokens: torch.Tensor) -> None:
        return None

    def forward(
        self, latents: torch.Tensor, angle: torch.Tensor, condition: object, unconditional: object = None
    ) -> torch.Tensor:
        return latents * self.gain

    def repeat(self, condition: object, times: int) -> None:
        return None


def test_table5_scores_any_denoiser_on_the_latents_of_another_run(
    even_preset: Preset, tones: Path, tone_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.denoisers._components, "zero", ZeroDenoiser)
    preset = with_changes(even_preset, ["denoiser.use=zero", "training.dpd.guidance_dropout=0"])
    train("dpd", TrainingRun(preset, tones, tmp_path, weights=tone_run / "weights"))
    zero, ours = (json.loads((folder / "dpd" / "table5.json").read_text()) for folder in (tmp_path, tone_run))
    assert zero["denoiser"]["use"] == "zero"
    assert zero["denoiser"]["arguments"]["latent_dim"] == 4
    assert zero["items"] == ours["items"] > 0
    assert zero["zero_mse"] == ours["zero_mse"]  # the same latents, noise and angles
    for scored in (zero, ours):
        assert math.isfinite(scored["velocity_mse"])
        assert math.isfinite(scored["si_snri_db"])
        assert sum(row["n"] for row in scored["by_angle"]) == scored["items"]
    card = json.loads((tone_run / "weights" / "card.json").read_text())
    assert card["denoiser"]["held_out"]["table5_velocity_mse"] == ours["velocity_mse"]


SMALL_UNETS: dict[str, dict[str, Any]] = {
    "unet-1d": {
        "channels": (8, 8),
        "factors": (1, 2),
        "items": (1, 1),
        "attention": (False, True),
        "head_dim": 4,
        "semantic_dim": 8,
    },
    "unet-2d": {
        "channels": (4, 8),
        "layers": 1,
        "attention": (False, True),
        "heads": 2,
        "semantic_dim": 8,
        "position_channels": 4,
        "norm_groups": 2,
    },
}


@pytest.mark.parametrize("name", sorted(SMALL_UNETS))
def test_the_unets_are_trained_as_any_denoiser(
    even_preset: Preset, tones: Path, tone_run: Path, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("diffusers")
    own = even_preset.denoiser.arguments
    facts = {key: own[key] for key in ("latent_dim", "frame_rate", "codebook_size")}
    arguments = registry.denoisers.validate(name, {**facts, **SMALL_UNETS[name]}, where="a test")
    preset = even_preset.model_copy(update={"denoiser": Component(use=name, arguments=arguments)})
    train("dpd", TrainingRun(with_settings(preset, seed=3), tones, tmp_path, weights=tone_run / "weights"))
    card = json.loads((tmp_path / "weights" / "card.json").read_text())["denoiser"]
    assert card["seed"] == 3
    assert math.isfinite(card["held_out"]["table5_velocity_mse"])


def test_tokens_and_prefixes_are_hidden_as_often_as_the_preset_says(tiny_preset: Preset) -> None:
    assert tiny_preset.training is not None
    data = TokenData(torch.zeros(5, 3, 12, dtype=torch.int64), torch.zeros(5, 250, dtype=torch.int64))
    settings = tiny_preset.training.lm.model_copy(update={"batch_size": 4_000})
    *_, dropped = LanguageModelling(torch.nn.Linear(1, 1), settings, data, data).batch(0)
    prefix, tokens = dropped[:, :12], dropped[:, 12:].float().mean(dim=1)
    assert torch.equal(prefix.all(dim=1), prefix.any(dim=1))  # whole or not at all
    assert float(prefix.float().mean()) == pytest.approx(settings.prefix_dropout, abs=0.02)
    assert float(tokens.mean()) == pytest.approx(settings.token_dropout / 2, abs=0.01)
    assert float(tokens.max()) > 0.9 * settings.token_dropout
    assert float(tokens.min()) < 0.1 * settings.token_dropout
    for share in (0.0, 0.25, 1.0):
        told = TokenData(torch.arange(3).repeat(5, 12, 1).mT.contiguous(), data.tokens)  # the prefix tells its view
        some = settings.model_copy(update={"audio_share": share})
        prefixes, *_ = LanguageModelling(torch.nn.Linear(1, 1), some, told, told).batch(0)
        assert float((prefixes[:, 0] == 0).float().mean()) == pytest.approx(share, abs=0.03)
    plain = settings.model_copy(update={"token_dropout": 0.0, "prefix_dropout": 0.0})
    assert len(LanguageModelling(torch.nn.Linear(1, 1), plain, data, data).batch(0)) == 2


def test_the_joint_stage_begins_from_public_towers(tiny_preset: Preset, tmp_path: Path) -> None:
    """Appendix B.3: a public music tower, fine-tuned; what is not there is one line, before a step is made."""
    from transformers import ASTConfig, ASTModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    places = {"patch_size": 16, "frequency_stride": 16, "time_stride": 16, "max_length": 1024, "num_mel_bins": 16}
    torch.manual_seed(5)
    public = ASTModel(ASTConfig(**sizes, **places))
    public.save_pretrained(tmp_path / "ast")
    own = {"front_end": "ast", "patch_size": 16, "patch_stride": 16}
    joint = Component(use="mulan", arguments=tiny_preset.joint_embedder.arguments | own)
    assert tiny_preset.training is not None

    def preset(source: str) -> Preset:
        assert tiny_preset.training is not None
        stage = tiny_preset.training.joint.model_copy(update={"audio_weights": source, "learning_rate": 1e-9})
        training = tiny_preset.training.model_copy(update={"joint": stage})
        return tiny_preset.model_copy(update={"joint_embedder": joint, "training": training})

    with pytest.raises(MelodyError, match="audio_weights: there is no folder gone; expected a folder"):
        train("joint", TrainingRun(preset("gone"), "embedded", tmp_path / "gone"))
    assert not (tmp_path / "gone" / "joint" / "last.ckpt").exists()
    run = TrainingRun(preset(str(tmp_path / "ast")), "embedded", tmp_path / "run")
    train("joint", run)
    trained = load_part(run.preset, "joint_embedder", run.weights_path("joint_embedder"))
    for name, tensor in public.state_dict().items():
        torch.testing.assert_close(trained.audio_tower.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)  # type: ignore[union-attr]
