"""Options that a component would drop in silence are refused, and what it takes reaches it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from melody.baselines.folder import FolderSystem
from melody.baselines.melody_system import MelodySystem
from melody.baselines.musicgen import MusicGenSystem
from melody.config import Preset
from melody.errors import MelodyError
from melody.lm.llama import Llama
from melody.pipeline import MelodyPipeline
from melody.pipeline.taken import takes

CHANGES = {"temperature": 0.5, "top_k": 2, "top_p": 0.5, "token_guidance_scale": 2.0}


def _nothing(model: Any, prefix: torch.Tensor, num_tokens: int, **_: Any) -> torch.Tensor:
    return prefix.new_zeros(len(prefix), num_tokens)


def _unread(
    model: Any,
    prefix: torch.Tensor,
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance_scale: float = 1.0,
    **options: Any,
) -> torch.Tensor:
    return prefix.new_zeros(len(prefix), num_tokens) + len(options)


def _handed_on(model: Any, prefix: torch.Tensor, num_tokens: int, **options: Any) -> torch.Tensor:
    return Llama.generate(model, prefix, num_tokens, **options)


def _with(pipeline: MelodyPipeline, preset: Preset, generate: Any, **generation: Any) -> MelodyPipeline:
    """The pipeline with a language model of another ``generate``."""
    changed = preset.model_copy(update={"generation": preset.generation.model_copy(update=generation)})
    parts = dict(pipeline.networks.modules)
    other = type("Other", (Llama,), {"generate": generate})
    model = other(**preset.language_model.arguments)
    model.load_state_dict(parts["language_model"].state_dict())
    return MelodyPipeline(changed, parts | {"language_model": model})


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("generate", [_nothing, _unread])
def test_an_option_that_a_language_model_ignores_is_refused(
    tiny_pipeline: MelodyPipeline, tiny_preset: Preset, generate: Any, name: str
) -> None:
    option = name.removeprefix("token_")
    message = rf"preset 'tiny' \[generation\]: {option} = .* has no effect on language model Other"
    with pytest.raises(MelodyError, match=message) as caught:
        _with(tiny_pipeline, tiny_preset, generate, **{name: CHANGES[name]})
    assert "\n" not in str(caught.value)
    _with(tiny_pipeline, tiny_preset, generate)


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_that_is_handed_on_counts(tiny_pipeline: MelodyPipeline, tiny_preset: Preset, name: str) -> None:
    changes = {name: CHANGES[name]}
    ours = _with(tiny_pipeline, tiny_preset, Llama.generate, **changes)("a flute", duration_s=0.5, seeds=1)
    theirs = _with(tiny_pipeline, tiny_preset, _handed_on, **changes)("a flute", duration_s=0.5, seeds=1)
    assert torch.equal(ours.waveform, theirs.waveform)


def test_guidance_of_a_denoiser_that_always_sees_its_tokens_is_refused(
    tiny_pipeline: MelodyPipeline, tiny_preset: Preset
) -> None:
    own = type(tiny_pipeline.denoiser)

    def forward(network: Any, latents: Any, angle: Any, condition: Any, unconditional: Any = None) -> Any:
        return own.forward(network, latents, angle, condition)

    parts = dict(tiny_pipeline.networks.modules)
    network = type("Other", (own,), {"forward": forward})(**tiny_preset.denoiser.arguments)
    pipeline = MelodyPipeline(tiny_preset, parts | {"denoiser": network})
    with pytest.raises(MelodyError, match="guidance_scale = 2.5 has no effect on denoiser Other"):
        pipeline("a flute", duration_s=0.5)
    pipeline("a flute", duration_s=0.5, guidance_scale=1.0)


def test_every_denoiser_and_language_model_of_ours_takes_all() -> None:
    from melody.registry import denoisers, language_models

    for entry in language_models.entries():
        for name in ("temperature", "top_k", "top_p", "guidance_scale"):
            assert takes(entry.component.generate, name), entry.name
    for entry in denoisers.entries():
        assert takes(entry.component.forward, "unconditional"), entry.name


def test_a_system_refuses_options_that_it_does_not_take(tiny_pipeline: MelodyPipeline) -> None:
    call: dict[str, Any] = {"duration_s": 0.5, "seeds": [0]}
    ours = MelodySystem.around(tiny_pipeline)
    with pytest.raises(MelodyError, match="system 'melody' takes no option 'steps'; did you mean 'num_steps'"):
        ours.generate(["a flute"], steps=3, **call)
    for kind in (FolderSystem, MusicGenSystem):
        with pytest.raises(MelodyError, match="takes no option 'num_steps'"):
            kind.check_options({"num_steps": 5})
