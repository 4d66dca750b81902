"""Lightning around a recipe changes nothing of it: plain loops, parts of a batch, precision, validation."""

from __future__ import annotations

import copy
import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from melody.config import CodecStage, DenoiserStage, Preset
from melody.data.corpus import Corpus
from melody.data.loading import load_corpus
from melody.errors import MelodyError
from melody.pipeline import build_part
from melody.training import fit as fitting
from melody.training.audio import random_crops
from melody.training.dpd import LatentData, VelocityPrediction
from melody.training.fit import fit
from melody.training.hardware import Hardware
from melody.training.lm import LanguageModelling, TokenData
from melody.training.recipe import Recipe
from melody.training.shares import Share
from melody.training.stages import TrainingRun, train, with_settings
from melody.training.vae import AudioVae
from melody.vae.discriminators import MultiPeriodDiscriminator, MultiResolutionDiscriminator
from melody.vae.losses import discriminator_loss, kl_loss


@pytest.fixture(scope="module")
def latents() -> LatentData:
    generator = torch.Generator().manual_seed(3)
    return LatentData(torch.randn(6, 50, 4, generator=generator), torch.randint(7, (6, 25), generator=generator))


def denoiser_stage(**changes: Any) -> DenoiserStage:
    return DenoiserStage(steps=4, batch_size=4, learning_rate=1e-3, clip_s=1.0, ema_decay=0.9, **changes)


def codec_stage(**changes: Any) -> CodecStage:
    return CodecStage(
        steps=4, batch_size=4, clip_s=0.5, learning_rate=1e-3, adversarial_start=2, discriminator_width=2, **changes
    )


def velocity_recipe(preset: Preset, data: LatentData, settings: DenoiserStage) -> VelocityPrediction:
    torch.manual_seed(0)
    return VelocityPrediction(build_part(preset, "denoiser"), settings, data, data, 4)


def codec_recipe(preset: Preset, corpus: Corpus, settings: CodecStage) -> AudioVae:
    torch.manual_seed(0)
    return AudioVae(build_part(preset, "codec"), settings, corpus, corpus)


def adamw(module: torch.nn.Module, betas: tuple[float, float]) -> torch.optim.AdamW:
    matrices = [p for p in module.parameters() if p.ndim >= 2]
    others = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=betas)


def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / 4)))


def update(optimizer: torch.optim.Optimizer, loss: Tensor, module: torch.nn.Module, clipped: Any = None) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(clipped or module.parameters(), 1.0)
    optimizer.step()


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, tensor), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name


def test_the_denoiser_stage_is_this_loop_bit_for_bit(even_preset: Preset, latents: LatentData, tmp_path: Path) -> None:
    recipe = velocity_recipe(even_preset, latents, denoiser_stage())
    part = copy.deepcopy(recipe.part)
    average = copy.deepcopy(part)
    fit(recipe, tmp_path, title="test")
    optimizer, losses = adamw(part, (0.9, 0.98)), []
    schedule = cosine(optimizer)
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(6, (4,), generator=generator)
        noise = torch.randn((4, 50, 4), generator=generator)
        angle = torch.rand(4, 4, generator=generator) * (math.pi / 2)
        angle = angle.repeat_interleave(torch.tensor([12, 13, 12, 13]), dim=1)
        dropped = torch.rand(4, generator=generator) < 0.1
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        clean = latents.latents[rows]
        predicted = part(cos * clean + sin * noise, angle, part.prepare(latents.tokens[rows]), dropped)
        loss = (predicted - (cos * noise - sin * clean)).square().mean()
        groups = [p for group in optimizer.param_groups for p in group["params"]]
        update(optimizer, loss, part, groups)
        schedule.step()
        losses.append(float(loss.detach()))
        decay = min(0.9, (2 + step) / (11 + step))
        with torch.no_grad():
            for kept, weight in zip(average.parameters(), part.parameters(), strict=True):
                kept.lerp_(weight, 1 - decay)
    assert [row["loss"] for row in recipe.history] == losses
    assert_equal(recipe.part, part)
    assert recipe.average is not None
    assert_equal(recipe.average, average)


def test_the_codec_stage_is_this_loop_bit_for_bit(even_preset: Preset, tones: Path, tmp_path: Path) -> None:
    corpus = load_corpus(tones, split="train")
    recipe = codec_recipe(even_preset, corpus, codec_stage())
    plain = copy.deepcopy(recipe)
    part, judges = plain.part, plain.discriminators
    assert [type(judge) for judge in judges] == [MultiPeriodDiscriminator, MultiResolutionDiscriminator]
    fit(recipe, tmp_path, title="test")
    codec, judge, losses = adamw(part, (0.8, 0.99)), adamw(judges, (0.8, 0.99)), []
    schedule = cosine(codec)
    for step in range(4):
        target = random_crops(corpus, 4, 12_000, torch.Generator().manual_seed(step))[0]
        torch.manual_seed(step)
        preds, mean, log_variance = part.reconstruct(target)
        own = {"kl": (plain.settings.kl_weight, kl_loss(mean, log_variance))}
        terms = plain.generator_losses(preds, target, own, step)
        update(codec, terms["loss"], part)
        if step >= 2:
            loss = sum(discriminator_loss(d(target)[0], d(preds.detach())[0]) for d in judges)
            update(judge, loss, judges)
            terms["discriminator"] = loss
        schedule.step()
        losses.append({name: float(value.detach()) for name, value in terms.items()})
    assert [{k: v for k, v in row.items() if k != "step"} for row in recipe.history] == losses
    assert_equal(recipe.part, part)
    assert_equal(recipe.discriminators, judges)


def test_a_run_that_is_lengthened_goes_on_as_it_would_have(
    even_preset: Preset, latents: LatentData, tmp_path: Path
) -> None:
    """``restart_at``: a finished run resumes under the longer recipe, to the same weights as that recipe alone."""
    longer = {"steps": 7, "restart_at": 4, "warmup_steps": 2}
    short = velocity_recipe(even_preset, latents, denoiser_stage(warmup_steps=2))
    fit(short, tmp_path / "lengthened", title="test")
    recipes = []
    for folder in ("lengthened", "whole"):
        settings = denoiser_stage().model_copy(update=longer)
        recipes.append(velocity_recipe(even_preset, latents, settings))
        fit(recipes[-1], tmp_path / folder, title="test")
    assert_equal(recipes[0].part, recipes[1].part)
    assert_equal(recipes[0].trained(), recipes[1].trained())
    factors = [recipes[1].learning_rate_factor(step) for step in range(8)]
    assert factors[:5] == [short.learning_rate_factor(step) for step in range(5)]
    assert (factors[0], factors[4], factors[5], factors[7]) == (0.5, 0.0, 1.0, 0.0)
    beyond = velocity_recipe(even_preset, latents, denoiser_stage(restart_at=9, warmup_steps=2))
    assert beyond.learning_rate_factor(3) == short.learning_rate_factor(3)


def test_from_a_given_step_on_the_encoder_stays_as_it_is_exported(
    even_preset: Preset, tones: Path, tmp_path: Path
) -> None:
    corpus = load_corpus(tones, split="train")
    settings = codec_stage(ema_decay=0.5, decoder_only_from=3).model_copy(update={"steps": 6})
    after = codec_recipe(even_preset, corpus, settings)
    # With the schedule of the longer run from its beginning, and killed in the decoder's steps.
    fit(after, tmp_path / "after", title="test", stop_after=3)
    encoder = {n: p.clone() for n, p in after.trained().named_parameters() if n.startswith("encoder")}
    decoder = {n: p.clone() for n, p in after.trained().named_parameters() if n.startswith("decoder")}
    assert encoder
    assert decoder
    for stop in (4, 6):
        after = codec_recipe(even_preset, corpus, settings)
        fit(after, tmp_path / "after", title="test", stop_after=stop)
    exported = dict(after.trained().named_parameters())
    assert all(torch.equal(exported[name], weight) for name, weight in encoder.items())
    assert not any(torch.equal(exported[name], weight) for name, weight in decoder.items())
    rows = [json.loads(line) for line in (tmp_path / "after" / "history.jsonl").read_text().splitlines()]
    assert ["discriminator" in row for row in rows] == [False, False, True, False, False, False]


def test_a_codec_without_a_known_encoder_has_no_steps_of_the_decoder_alone(tones: Path) -> None:
    corpus = load_corpus(tones, split="train")
    with pytest.raises(MelodyError, match=r"decoder_only_from is 3, but no parameter of Linear is named encoder"):
        AudioVae(torch.nn.Linear(2, 2), codec_stage(decoder_only_from=3), corpus, corpus)


def test_the_decoders_own_steps_may_weigh_log_magnitudes_otherwise(even_preset: Preset, tones: Path) -> None:
    corpus = load_corpus(tones, split="train")
    recipe = codec_recipe(even_preset, corpus, codec_stage(decoder_only_from=3, decoder_log_stft_weight=7.0))
    target = recipe.batch(0)
    preds, own = recipe.reconstruct(target, recipe.draw())
    early, late = (recipe.generator_losses(preds, target, own, step) for step in (1, 3))
    torch.testing.assert_close(late["loss"] - early["loss"], 7.0 * early["log_stft"])


def test_the_denoiser_learns_mapped_samples_where_latents_deviate(even_preset: Preset, latents: LatentData) -> None:
    """Appendix B.1: samples, drawn anew in each step, clamped; held-out rows have one sample each."""
    means = 0.2 * latents.latents
    sure = LatentData(means, latents.tokens, deviations=torch.zeros_like(means))
    unsure = LatentData(means, latents.tokens, deviations=torch.full_like(means, 0.5))
    plain, exact, sampled = (
        velocity_recipe(even_preset, data, denoiser_stage())
        for data in (LatentData(means, latents.tokens), sure, unsure)
    )
    assert all(torch.equal(a, b) for a, b in zip(plain.batch(2), exact.batch(2), strict=True))
    drawn = sampled.batch(2)[0]
    difference = (drawn - plain.batch(2)[0]) / 0.5
    assert drawn.abs().max() == 1
    assert float(difference[drawn.abs() < 1].std()) == pytest.approx(0.9, abs=0.15)  # normal, its tails cut off
    assert not torch.equal(sampled.batch(2)[0], sampled.batch(3)[0])
    halves = [sampled.batch(2, Share(index, 2))[0] for index in range(2)]
    assert torch.equal(torch.cat(halves), drawn)
    assert torch.equal(unsure.held_out(torch.tensor([4, 1])), unsure.held_out(torch.tensor([1, 4])).flip(0))
    assert not torch.equal(unsure.held_out(torch.tensor([1])), means[1:2])
    assert sampled.validate() == sampled.validate()


def test_shares_of_a_batch_are_its_rows(even_preset: Preset, tones: Path, latents: LatentData) -> None:
    corpus = load_corpus(tones, split="train")
    recipes: list[Recipe] = [
        velocity_recipe(even_preset, latents, denoiser_stage()),
        codec_recipe(even_preset, corpus, codec_stage()),
    ]
    for recipe in recipes:
        whole = recipe.batch(7)
        halves = [recipe.batch(7, Share(index, 2)) for index in range(2)]
        as_tuples = [batch if isinstance(batch, tuple) else (batch,) for batch in (whole, *halves)]
        for tensor, first, second in zip(*as_tuples, strict=True):
            assert torch.equal(torch.cat([first, second]), tensor)


@pytest.mark.parametrize("stage", ["codec", "denoiser"])
def test_an_accumulated_batch_gives_the_same_step(
    even_preset: Preset, tones: Path, latents: LatentData, tmp_path: Path, stage: str
) -> None:
    corpus, recipes = load_corpus(tones, split="train"), []
    for accumulate in (1, 2):
        if stage == "codec":
            recipe: Recipe = codec_recipe(even_preset, corpus, codec_stage(accumulate=accumulate))
        else:
            recipe = velocity_recipe(even_preset, latents, denoiser_stage(accumulate=accumulate))
        fit(recipe, tmp_path / str(accumulate), title="test", stop_after=3)  # resumed in the middle, too
        fit(recipe, tmp_path / str(accumulate), title="test")
        recipes.append(recipe)
    whole, parts = (dict(recipe.trained().named_parameters()) for recipe in recipes)
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    rows = [[json.loads(line) for line in (tmp_path / n / "history.jsonl").read_text().splitlines()] for n in "12"]
    for one, two in zip(*rows, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert one["step"] == two["step"]


def test_a_batch_that_cannot_be_shared_is_one_line(even_preset: Preset, latents: LatentData, tmp_path: Path) -> None:
    recipe = velocity_recipe(even_preset, latents, denoiser_stage(accumulate=3))
    with pytest.raises(MelodyError, match="batch_size 4 cannot be shared evenly by 1 processes in 3 parts"):
        fit(recipe, tmp_path, title="test")


def test_every_stage_trains_in_bf16(even_preset: Preset, tones: Path, tmp_path: Path) -> None:
    train("all", TrainingRun(with_settings(even_preset, precision="bf16-mixed"), tones, tmp_path))
    for stage in ("joint", "semantic", "lm", "vae", "dpd"):
        state = torch.load(tmp_path / stage / "last.ckpt", weights_only=True)["state_dict"]
        assert all(tensor.dtype != torch.bfloat16 for tensor in state.values())
    card = json.loads((tmp_path / "weights" / "card.json").read_text())
    assert "bf16-mixed" in card["codec"]["machine"]


def test_unknown_flags_name_the_nearest() -> None:
    with pytest.raises(MelodyError, match="unknown strategy 'fdsp'; did you mean 'fsdp'"):
        Hardware(strategy="fdsp")
    with pytest.raises(MelodyError, match="unknown strategy 'ddp_spawn'"):  # its weights never come back
        Hardware(strategy="ddp_spawn")
    with pytest.raises(MelodyError, match="devices is 'two'"):
        Hardware(devices="two")


def test_an_unknown_precision_is_one_line(even_preset: Preset) -> None:
    with pytest.raises(MelodyError, match=r"training\.joint: precision: Input should be '32-true', 'bf16-mixed'"):
        with_settings(even_preset, precision="fp16")


def test_half_precision_without_a_gpu_is_one_line(even_preset: Preset, latents: LatentData, tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match="precision '16-mixed' needs a GPU"):
        fit(velocity_recipe(even_preset, latents, denoiser_stage(precision="16-mixed")), tmp_path, title="test")


def test_a_full_disk_leaves_the_last_good_checkpoint(
    even_preset: Preset, latents: LatentData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(velocity_recipe(even_preset, latents, denoiser_stage()), tmp_path, title="test", stop_after=2)
    good = (tmp_path / "last.ckpt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        with pytest.raises(MelodyError, match=r"cannot write .*last\.ckpt: No space left on device; the last good"):
            fit(velocity_recipe(even_preset, latents, denoiser_stage()), tmp_path, title="test")
    assert (tmp_path / "last.ckpt").read_bytes() == good
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "history.jsonl"}
    resumed = velocity_recipe(even_preset, latents, denoiser_stage())
    fit(resumed, tmp_path, title="test")
    whole = velocity_recipe(even_preset, latents, denoiser_stage())
    fit(whole, tmp_path / "whole", title="test")
    assert_equal(resumed.part, whole.part)


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stage", ["codec", "denoiser"])
def test_a_batch_whose_loss_is_not_finite_is_kept(
    even_preset: Preset, tones: Path, latents: LatentData, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(tones, split="train")
    if stage == "codec":
        recipe: Recipe = codec_recipe(even_preset, corpus, codec_stage())
        monkeypatch.setattr(recipe.stft, "linear_and_log", lambda preds, target: (preds.sum() * math.inf, preds.sum()))
    else:
        recipe = velocity_recipe(even_preset, latents, denoiser_stage())
        monkeypatch.setattr(recipe, "losses", lambda batch: {"loss": recipe.part(*_spoilt(batch, recipe.part)).mean()})
    with pytest.raises(MelodyError, match=r"is (nan|-?inf) at step 0; its batch is kept in .*nonfinite-step-0") as e:
        fit(recipe, tmp_path, title="test")
    assert "\n" not in str(e.value)
    with safe_open(tmp_path / "nonfinite-step-0.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "0"
        assert file.metadata()["seed"] == "0"
        batch = recipe.batch(0)
        expected = batch if isinstance(batch, tuple) else (batch,)
        for index, tensor in enumerate(expected):
            assert torch.equal(file.get_tensor(f"batch_{index}"), tensor)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("stage", ["codec", "denoiser"])
def test_gradients_that_are_not_finite_stop_before_a_weight_is_spoiled(
    even_preset: Preset, tones: Path, latents: LatentData, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY_S", 0.0)
    recipe: Any
    if stage == "codec":
        recipe, name = codec_recipe(even_preset, load_corpus(tones, split="train"), codec_stage()), "generator_losses"
    else:
        recipe, name = velocity_recipe(even_preset, latents, denoiser_stage()), "losses"
    known = getattr(recipe, name)

    def losses(*given: Any) -> dict[str, Tensor]:
        found = known(*given)
        weight = next(recipe.part.parameters())
        if int(recipe.completed) == 2:  # the root of zero: a loss like any other, without a gradient
            found["loss"] = found["loss"] + (weight - weight.detach()).square().sum().sqrt()
        return found

    monkeypatch.setattr(recipe, name, losses)
    with pytest.raises(MelodyError, match=r"gradient norm is nan at step 2; its batch is kept in .*nonfinite-step-2"):
        fit(recipe, tmp_path, title="test")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert int(state["completed"]) == 2
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert all(torch.isfinite(weight).all() for weight in recipe.part.parameters())
    with safe_open(tmp_path / "nonfinite-step-2.safetensors", framework="pt") as file:
        batch = recipe.batch(2)
        assert torch.equal(file.get_tensor("batch_0"), batch[0] if isinstance(batch, tuple) else batch)


def test_a_line_of_the_history_that_broke_off_is_written_again(
    even_preset: Preset, latents: LatentData, tmp_path: Path
) -> None:
    fit(velocity_recipe(even_preset, latents, denoiser_stage()), tmp_path, title="test", stop_after=2)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    fit(velocity_recipe(even_preset, latents, denoiser_stage()), tmp_path, title="test")
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]


def test_processes_that_the_flags_do_not_tell_of_are_one_line(
    even_preset: Preset, latents: LatentData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    for name, value in {**shared, "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MelodyError, match=r"`devices=1` .* does not match the world size \(2\)"):
        fit(velocity_recipe(even_preset, latents, denoiser_stage()), tmp_path, title="test")


def test_figures_are_means_over_rows_not_over_batches(even_preset: Preset) -> None:
    torch.manual_seed(0)
    part, settings = build_part(even_preset, "language_model"), even_preset.training.lm  # type: ignore[union-attr]
    data = TokenData(torch.randint(5, (33, 3, 3)), torch.randint(7, (33, 25)))
    each = [float(part.loss(data.prefixes[i : i + 1, 1], data.tokens[i : i + 1]).detach()) for i in range(33)]  # type: ignore[operator]
    found = LanguageModelling(part, settings, data, data).validate()["loss"]
    assert found == pytest.approx(sum(each) / 33, rel=1e-5)


def _spoilt(batch: tuple[Tensor, ...], part: Any) -> tuple[Any, ...]:
    latents, tokens, _, angle, dropped = batch
    return latents * math.nan, angle, part.prepare(tokens), dropped


def test_a_look_at_held_out_data_changes_no_weight(
    even_preset: Preset, tones: Path, tone_run: Path, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    looking = with_settings(even_preset, validate_every=2)
    for stage in ("vae", "dpd", "semantic"):
        train(stage, TrainingRun(looking, tones, tmp_path, weights=tone_run / "weights"))
        one, other = (
            torch.load(f / stage / "last.ckpt", weights_only=True)["state_dict"] for f in (tone_run, tmp_path)
        )
        assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
        events = EventAccumulator(str(tmp_path / stage / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]
        assert len(events.Scalars("learning_rate")) == 4
        assert any(name.startswith("held_out/") for name in events.Tags()["scalars"])
        if stage == "semantic":
            continue
        sound = "clip 0/reconstruction" if stage == "vae" else "clip 0/sampled"
        assert [event.step for event in events.Audio(sound)] == [2, 4]
        assert f"{sound}/spectrogram" in events.Tags()["images"]
