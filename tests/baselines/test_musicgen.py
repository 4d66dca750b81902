"""MusicGen through its real classes at a tiny size: loading, lengths, seeds, counts, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from melody.baselines import musicgen
from melody.baselines.musicgen import MusicGenSystem
from melody.baselines.public_models import t5_letters
from melody.errors import MelodyError
from melody.metrics.flops import count

PROMPTS = ["a flute", "a loud and fast drum"]


def _save(folder: Path, channels: int = 1) -> Path:
    config = MusicgenConfig(
        text_encoder=T5Config(vocab_size=98, d_model=12, d_kv=4, d_ff=8, num_layers=1, num_heads=2).to_dict(),
        audio_encoder=EncodecConfig(
            sampling_rate=800,
            upsampling_ratios=[4, 4],
            num_filters=2,
            hidden_size=8,
            codebook_size=16,
            codebook_dim=8,
            target_bandwidths=[0.8],
            use_causal_conv=False,
        ).to_dict(),
        decoder=MusicgenDecoderConfig(
            vocab_size=16,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=16,
            num_codebooks=4 * channels,
            audio_channels=channels,
            pad_token_id=16,
            bos_token_id=16,
        ).to_dict(),
    )
    torch.manual_seed(3)
    model = MusicgenForConditionalGeneration(config)
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # else every token is as likely as every other
    for name, buffer in model.audio_encoder.named_buffers():
        if name.endswith("codebook.embed"):
            torch.nn.init.normal_(buffer)  # zeros: every code would sound the same
    model.save_pretrained(folder)
    t5_letters(64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("musicgen"))


@pytest.fixture(scope="module")
def system(weights: Path) -> MusicGenSystem:
    return MusicGenSystem(weights)


def test_rows_are_what_their_prompts_give_alone_and_as_long_as_asked(system: MusicGenSystem) -> None:
    both = system.generate(PROMPTS, duration_s=0.21, seeds=[5, 6])
    assert both.waveform.shape == (2, 1, round(0.21 * 800))
    alone = system.generate(PROMPTS[1:], duration_s=0.21, seeds=[6])
    torch.testing.assert_close(both.waveform[1:], alone.waveform, atol=1e-5, rtol=1e-4)
    other = system.generate(PROMPTS[1:], duration_s=0.21, seeds=[7])
    assert not torch.equal(alone.waveform, other.waveform)


@pytest.mark.parametrize(("guidance_scale", "weight"), [(3.0, 2), (1.0, 1)])
def test_hooks_formula_and_work_agree(system: MusicGenSystem, guidance_scale: float, weight: int) -> None:
    trace = system.generate(PROMPTS, duration_s=0.5, seeds=[0, 1], guidance_scale=guidance_scale).trace
    frames = 25  # 0.5 s at 50 Hz
    assert trace.passes == trace.formula == {"language_model": frames + 3}
    assert trace.weighted_passes == {"language_model": weight * (frames + 3)}
    work = system.work(0.5, guidance_scale=guidance_scale)
    tokens = [one for one in work if one.part == "language_model"]
    assert sum(one.calls for one in tokens) == frames + 3
    assert {one.rows for one in tokens} == {weight}
    for one in work:
        assert one.setup is not None
        one.setup()
        one.run()


def test_greedy_codes_are_those_of_transformers(system: MusicGenSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(musicgen, "TOP_K", 1)
    made = system.generate(PROMPTS, duration_s=0.5, seeds=[0, 0]).waveform
    text = system.tokenizer(PROMPTS, padding=True, return_tensors="pt")
    system.model.generation_config.update(decoder_start_token_id=16, pad_token_id=16, bos_token_id=16)
    theirs = system.model.generate(**text, max_new_tokens=28, do_sample=False, guidance_scale=3.0)
    torch.testing.assert_close(made, theirs[..., : made.shape[-1]].clamp(-1, 1), atol=1e-5, rtol=1e-4)


def test_a_stereo_checkpoint_is_mixed_to_mono(tmp_path: Path) -> None:
    made = MusicGenSystem(_save(tmp_path, channels=2)).generate(["x"], duration_s=0.5, seeds=[0])
    assert made.waveform.shape == (1, 1, 400)
    assert made.trace.passes == {"language_model": 28}


def test_facts_name_weights_and_versions(system: MusicGenSystem) -> None:
    facts = system.identity()
    assert len(facts["weights"]) == 64
    assert {"torch", "transformers"} <= set(facts)


def test_too_long_a_clip_is_refused(system: MusicGenSystem) -> None:
    with pytest.raises(MelodyError, match="system 'musicgen' cannot make 31 s: expected more than 0, and at most 30 s"):
        system.generate(["x"], duration_s=31, seeds=[0])


def test_missing_weights_name_model_place_and_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MelodyError, match=r"MusicGen: .*HF_HUB_OFFLINE.*facebook/musicgen-small.*--system musicgen="):
        MusicGenSystem("facebook/musicgen-none")


def test_pickles_and_foreign_shapes_are_refused(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    key = next(key for key in tensors if key.endswith("fc1.weight"))
    save_file({**tensors, key: torch.zeros(3, 3)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MelodyError, match="does not fit MusicgenForConditionalGeneration"):
        MusicGenSystem(tmp_path)
    save_file({k: v for k, v in tensors.items() if k != key}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MelodyError, match="1 missing: .*fc1.weight"):
        MusicGenSystem(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(MelodyError, match=r"holds no safetensors; pytorch_model.bin is a pickle"):
        MusicGenSystem(tmp_path)


@pytest.mark.parametrize(("size", "printed"), [("small", 0.3e9), ("medium", 1.5e9), ("large", 3.3e9)])
def test_random_systems_have_the_published_sizes(size: str, printed: float) -> None:
    system = MusicGenSystem.random(size, device="meta")
    decoder = sum(parameter.numel() for parameter in system.model.decoder.parameters())
    assert decoder == pytest.approx(printed, rel=0.41)
    for one in system.work(10.0)[:2]:
        assert one.setup is not None
        one.setup()
        one.run()
    assert sum(one.calls for one in system.work(10.0) if one.part == "language_model") == 503


def test_all_of_a_clip_is_counted_from_shapes() -> None:
    """The codec's decoding too, whose sizes lie in buffers that have no values on the meta device."""
    flops: dict[str, int] = {}
    for work in MusicGenSystem.random("small", device="meta").work(1.0):
        if work.setup is not None:
            work.setup()
        flops[work.part] = flops.get(work.part, 0) + work.calls * count(work.module, work.run).flops
    assert set(flops) == {"text_encoder", "language_model", "codec"}
    assert min(flops.values()) > 1e9
