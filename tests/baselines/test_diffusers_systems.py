"""Stable Audio Open and AudioLDM 2 through their real classes at tiny sizes: loading, lengths, seeds, counts."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from melody.baselines.audioldm2 import SCHEDULER, AudioLDM2System
from melody.baselines.public_models import roberta_bytes, t5_letters
from melody.baselines.stable_audio import StableAudioSystem
from melody.errors import MelodyError

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

PROMPTS = ["a flute", "a loud and fast drum"]
T5 = {"vocab_size": 98, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}


def _save_stable_audio(folder: Path) -> None:
    projection = importlib.import_module("diffusers.pipelines.stable_audio").StableAudioProjectionModel
    pipeline = diffusers.StableAudioPipeline(
        vae=diffusers.AutoencoderOobleck(
            encoder_hidden_size=4,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
            decoder_channels=4,
            decoder_input_channels=4,
            audio_channels=2,
            sampling_rate=400,
        ),
        text_encoder=transformers.T5EncoderModel(transformers.T5Config(**T5)),
        projection_model=projection(16, 16, 0, 8),
        tokenizer=t5_letters(24),
        transformer=diffusers.StableAudioDiTModel(
            sample_size=50,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            num_key_value_attention_heads=2,
            cross_attention_dim=16,
            cross_attention_input_dim=16,
            global_states_input_dim=32,
            time_proj_dim=8,
        ),
        scheduler=diffusers.EDMDPMSolverMultistepScheduler(sigma_data=1.0, prediction_type="v_prediction"),
    )
    pipeline.save_pretrained(folder)


def _save_audioldm2(folder: Path) -> None:
    gpt2 = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, vocab_size=11)
    gpt2.max_new_tokens = 3
    sizes = {"vocab_size": 261, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    clap = transformers.ClapConfig(
        text_config={**sizes, "intermediate_size": 16, "max_position_embeddings": 40, "projection_dim": 16},
        audio_config={
            "spec_size": 64,
            "hidden_size": 16,
            "num_mel_bins": 16,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "window_size": 4,
            "projection_dim": 16,
        },
        projection_dim=16,
    )
    pipeline = diffusers.AudioLDM2Pipeline(
        vae=diffusers.AutoencoderKL(
            in_channels=1,
            out_channels=1,
            block_out_channels=(4, 4, 4),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=2,
        ),
        text_encoder=transformers.ClapModel(clap),
        text_encoder_2=transformers.T5EncoderModel(transformers.T5Config(**T5)),
        projection_model=diffusers.AudioLDM2ProjectionModel(16, 16, 16),
        language_model=transformers.GPT2LMHeadModel(gpt2),
        tokenizer=roberta_bytes(32),
        tokenizer_2=t5_letters(32),
        feature_extractor=transformers.ClapFeatureExtractor(),
        unet=diffusers.AudioLDM2UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=((None, 16, 16),) * 2,
            attention_head_dim=2,
            layers_per_block=1,
        ),
        scheduler=diffusers.DDIMScheduler(**SCHEDULER),
        vocoder=transformers.SpeechT5HifiGan(
            transformers.SpeechT5HifiGanConfig(
                model_in_dim=16,
                sampling_rate=1600,
                upsample_initial_channel=8,
                upsample_rates=[4, 4],
                upsample_kernel_sizes=[8, 8],
                resblock_kernel_sizes=[3],
                resblock_dilation_sizes=[[1]],
                normalize_before=False,
            )
        ),
    )
    pipeline.save_pretrained(folder)


KINDS: dict[str, tuple[Any, Any, str]] = {
    "stable-audio-open": (StableAudioSystem, _save_stable_audio, "transformer"),
    "audioldm2": (AudioLDM2System, _save_audioldm2, "unet"),
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def weights(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    torch.manual_seed(2)
    KINDS[name][1](folder)
    return folder


@pytest.fixture(scope="module")
def system(name: str, weights: Path) -> Any:
    return KINDS[name][0](weights)


def test_rows_are_what_their_prompts_give_alone_and_as_long_as_asked(system: Any) -> None:
    both = system.generate(PROMPTS, duration_s=0.33, seeds=[5, 6], num_steps=3)
    assert both.waveform.shape == (2, 1, round(0.33 * system.sample_rate))
    for row in (0, 1):
        alone = system.generate([PROMPTS[row]], duration_s=0.33, seeds=[5 + row], num_steps=3)
        torch.testing.assert_close(both.waveform[row : row + 1], alone.waveform, atol=1e-5, rtol=1e-3)
    other = system.generate(PROMPTS[:1], duration_s=0.33, seeds=[7], num_steps=3)
    assert not torch.equal(both.waveform[:1], other.waveform)


@pytest.mark.parametrize(("guidance_scale", "rows"), [(3.0, 2), (1.0, 1)])
def test_hooks_formula_and_work_agree(system: Any, guidance_scale: float, rows: int) -> None:
    trace = system.generate(PROMPTS[:1], duration_s=0.2, seeds=[1], num_steps=4, guidance_scale=guidance_scale).trace
    assert trace.passes == trace.formula
    assert trace.passes["denoiser"] == 4
    assert trace.weighted_passes["denoiser"] == 4 * rows
    work, calls = system.work(0.2, num_steps=4, guidance_scale=guidance_scale), Counter[str]()
    for one in work:
        if not one.once:
            calls[one.part] += one.calls
        one.setup()
        one.run()
    assert dict(calls) == trace.passes


def _save_with_cosine(folder: Path) -> None:
    """The published scheduler's config, which cannot be saved without torchsde."""
    _save_stable_audio(folder)
    names = {"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_min": 0.3, "sigma_max": 500}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(names))


def test_the_published_scheduler_is_seeded_by_row(tmp_path: Path) -> None:
    pytest.importorskip("torchsde")
    _save_with_cosine(tmp_path)
    system = StableAudioSystem(tmp_path)
    both = system.generate(PROMPTS, duration_s=0.33, seeds=[5, 6], num_steps=3)
    alone = system.generate(PROMPTS[1:], duration_s=0.33, seeds=[6], num_steps=3)
    torch.testing.assert_close(both.waveform[1:], alone.waveform, atol=1e-5, rtol=1e-3)


def test_the_published_scheduler_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchsde", None)
    _save_with_cosine(tmp_path)
    with pytest.raises(MelodyError, match=r"Stable Audio Open needs torchsde, .*\.\[diffusers\]"):
        StableAudioSystem(tmp_path)


def test_facts_name_weights_and_versions(system: Any) -> None:
    facts = system.identity()
    assert len(facts["weights"]) == 64
    assert {"torch", "diffusers", "transformers"} <= set(facts)


def test_what_cannot_be_made_is_refused(system: Any) -> None:
    with pytest.raises(MelodyError, match=f"system '{system.name}' cannot make 60 s"):
        system.generate(["x"], duration_s=60, seeds=[0])
    with pytest.raises(MelodyError, match="number of steps is 0"):
        system.generate(["x"], duration_s=0.2, seeds=[0], num_steps=0)


def test_missing_pickled_and_foreign_weights_are_refused(name: str, weights: Path, tmp_path: Path) -> None:
    kind, _, denoiser = KINDS[name]
    with pytest.raises(MelodyError, match=r"expected the layout of .* on the hub"):
        kind(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(weights, copy)
    config = copy / denoiser / "config.json"
    config.write_text(config.read_text().replace('"in_channels": 4', '"in_channels": 8'))
    with pytest.raises(MelodyError, match=rf"{denoiser} does not fit"):
        kind(copy)
    (copy / denoiser / "diffusion_pytorch_model.safetensors").rename(copy / denoiser / "diffusion_pytorch_model.bin")
    with pytest.raises(MelodyError, match=r"diffusion_pytorch_model.bin is a pickle, which is never opened"):
        kind(copy)


def test_no_network_names_model_terms_and_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MelodyError, match=rf"from the hub it cannot be had.*(licence|CC BY).*--system {name}="):
        KINDS[name][0]("nobody/nothing")


PRINTED = {
    "stable-audio-open": {"transformer": 1057e6, "vae": 156e6, "text_encoder": 109e6},
    "audioldm2": {"unet": 350e6},
}


def test_random_systems_have_the_published_sizes(name: str) -> None:
    system = KINDS[name][0].random(device="meta")
    for part, printed in PRINTED[name].items():
        module = getattr(system.pipeline, part)
        assert sum(one.numel() for one in module.parameters()) == pytest.approx(printed, rel=0.02), part
    for one in system.work(10.0, num_steps=2):
        one.setup()
        one.run()
