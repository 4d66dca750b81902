from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from melody.artifacts.weights import save_weights
from melody.baselines.noise2music import Noise2MusicSystem
from melody.baselines.noise2music.preset import PARTS, Noise2MusicPreset
from melody.config import load_preset
from melody.errors import MelodyError
from melody.pipeline import build_part
from melody.registry import systems

RECALLED_MILLIONS = {"generator": 724, "cascader": 487, "super_resolution": 487}


@pytest.mark.parametrize("part", PARTS)
def test_paper_preset_has_the_recalled_parameters(part: str) -> None:
    with torch.device("meta"):
        network = load_preset("paper", Noise2MusicPreset).build(part)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(RECALLED_MILLIONS[part], rel=0.01)


def test_passes_are_the_steps_whatever_the_duration(cascade: Noise2MusicSystem) -> None:
    for duration_s in (0.5, 1.0):
        made = cascade.generate(["a flute"], duration_s=duration_s, seeds=[3])
        assert made.waveform.shape == (1, 1, round(24_000 * duration_s))
        assert made.trace.passes == made.trace.formula == {"generator": 10, "cascader": 8, "super_resolution": 8}
        assert made.trace.weighted_passes == {"generator": 20, "cascader": 8, "super_resolution": 8}


def test_a_call_chooses_steps_sampler_and_guidance(cascade: Noise2MusicSystem) -> None:
    few = cascade.generate(["a flute"], duration_s=0.5, seeds=[3], num_steps=[3, 2, 1], guidance_scale=1.0)
    assert list(few.trace.passes.values()) == list(few.trace.weighted_passes.values()) == [3, 2, 1]
    heun = cascade.generate(["a flute"], duration_s=0.5, seeds=[3], num_steps=0.2, sampler="heun")
    assert list(heun.trace.passes.values()) == [4, 4, 4]


def test_rows_are_what_they_are_alone(cascade: Noise2MusicSystem) -> None:
    settings = {"duration_s": 0.5, "num_steps": (3, 2, 2), "sampler": "ancestral"}
    both = cascade.generate(["a flute", "a drum"], seeds=[3, 8], **settings).waveform  # type: ignore[arg-type]
    again = cascade.generate(["a flute", "a drum"], seeds=[3, 8], **settings).waveform  # type: ignore[arg-type]
    alone = cascade.generate(["a drum"], seeds=[8], **settings).waveform  # type: ignore[arg-type]
    torch.testing.assert_close(again, both, rtol=0, atol=0)
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration_s": 1.5}, "'tiny-cascade' makes clips of at most 1 s: 1.5 s were asked for"),
        ({"num_steps": 20}, "num_steps is 20: expected three integers of 1 or more"),
        ({"num_steps": [4, 0, 4]}, "num_steps is \\[4, 0, 4\\]"),
        ({"num_step": 0.5}, "unknown option 'num_step'; did you mean 'num_steps'"),
        ({"sampler": "dim"}, "unknown sampler 'dim'; did you mean 'ddim'"),
        ({"seeds": [1, 2]}, "got 2 seeds for 1 prompts"),
    ],
)
def test_bad_calls_are_refused(cascade: Noise2MusicSystem, options: dict[str, object], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        cascade.generate(["a flute"], **{"duration_s": 0.5, "seeds": [0], **options})  # type: ignore[arg-type]


def test_work_is_what_a_generation_calls_and_runs_without_values(cascade_path: Path) -> None:
    """Also at the paper's size, where nothing but shapes can be had here."""
    for preset, calls in ((cascade_path, [10, 8, 8]), ("paper", [1000, 800, 800])):
        system = Noise2MusicSystem.random(preset, device="meta")
        works = system.work(1.0)
        assert [work.part for work in works if work.once] == ["joint_embedder", "rvq"]
        steps = [work for work in works if not work.once]
        assert [work.calls for work in steps] == calls
        assert [work.rows for work in steps] == [2, 1, 1]
        for work in steps:
            assert work.setup is not None
            work.setup()
            assert work.run().shape[1] == system.frames.frame_rate
    assert sum(work.calls for work in system.work(30.0) if not work.once) == 2600
    with pytest.raises(MelodyError, match="at most 30 s"):
        system.work(31.0)


def test_weights_load_into_the_registered_system_and_foreign_ones_do_not(
    cascade: Noise2MusicSystem, cascade_path: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    conditioned_by = load_preset(cascade.preset.melody)
    for part in PARTS:
        path = tmp_path / f"{part}.safetensors"
        save_weights(cascade.networks[part], path, cascade.preset.component_of(part), dtype="float32")
    for part in ("joint_embedder", "rvq"):
        module = {"joint_embedder": cascade.joint_embedder, "rvq": cascade.rvq}[part]
        save_weights(module, tmp_path / f"{part}.safetensors", conditioned_by.component_of(part), dtype="float32")
    loaded = systems.create("noise2music", {"preset": str(cascade_path), "weights": str(tmp_path)})
    settings = {"duration_s": 0.5, "seeds": [0], "num_steps": [2, 2, 2]}
    expected = cascade.generate(["a flute"], **settings).waveform  # type: ignore[arg-type]
    torch.testing.assert_close(loaded.generate(["a flute"], **settings).waveform, expected, rtol=0, atol=0)
    assert set(loaded.identity()["weights"]) == {*PARTS, "joint_embedder", "rvq"}

    foreign = build_part(conditioned_by, "rvq")
    save_weights(foreign, tmp_path / "cascader.safetensors", conditioned_by.component_of("rvq"))
    with pytest.raises(MelodyError, match="holds weights of 'rvq', but preset 'tiny-cascade' of noise2music wants"):
        systems.create("noise2music", {"preset": str(cascade_path), "weights": str(tmp_path)})


def test_missing_weights_and_presets_are_named(cascade_path: Path) -> None:
    with pytest.raises(MelodyError, match="'tiny-cascade' has no weights in .*; train them"):
        Noise2MusicSystem(str(cascade_path))
    with pytest.raises(MelodyError, match="unknown preset 'dem' of noise2music; did you mean 'demo'"):
        Noise2MusicSystem("dem")


def test_threads_share_the_system(cascade: Noise2MusicSystem, differences_in_threads: Any) -> None:
    steps = [[3, 2, 1], [4, 3, 2], [2, 2, 2], [5, 1, 1]]
    samplers = ["ddim", "heun", "unipc", "ancestral"]
    differing = differences_in_threads(
        [
            partial(cascade.generate, [f"a flute {number}"], duration_s=0.5, seeds=[number], num_steps=n, sampler=s)
            for number, (n, s) in enumerate(zip(steps, samplers, strict=True))
        ]
    )
    assert differing == []
