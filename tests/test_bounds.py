"""Any value of any argument of any component: something that is built, or one line; never a hang, never gigabytes."""

from __future__ import annotations

import inspect
import math
import time
import typing
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melody import memory
from melody.errors import MelodyError
from melody.registry import REGISTRIES, Registry, registry

SMALL: dict[tuple[str, str], dict[str, Any]] = {
    ("codecs", "fourier-vae"): {"hidden_dim": 16, "latent_dim": 4, "encoder_layers": 1, "decoder_layers": 1},
    ("token_codecs", "fourier-rvq"): {"hidden_dim": 16, "latent_dim": 4, "encoder_layers": 1, "decoder_layers": 1},
    ("denoisers", "dual-path"): {
        "hidden_size": 16, "num_blocks": 1, "merge_widths": [4], "num_heads": 2, "coarse_layers": 1,
        "feed_forward_size": 16, "recurrent_size": 8, "angle_embedding_dim": 8, "codebook_size": 8,
    },
    ("denoisers", "unet-1d"): {
        "channels": [8, 8], "factors": [1, 2], "items": [1, 1], "attention": [False, True], "head_dim": 4,
        "semantic_dim": 8, "angle_embedding_dim": 8, "codebook_size": 8,
    },
    ("denoisers", "unet-2d"): {
        "channels": [8, 8], "layers": 1, "attention": [False, True], "heads": 2, "semantic_dim": 8,
        "position_channels": 4, "norm_groups": 4, "codebook_size": 8,
    },
    ("denoisers", "a-unet"): {
        "channels": [8, 8], "factors": [1, 2], "items": [1, 1], "attention": [False, True], "heads": 2, "head_dim": 4,
        "semantic_dim": 8, "angle_embedding_dim": 8, "position_channels": 4, "norm_groups": 4, "codebook_size": 8,
    },
    ("semantic_tokenizers", "wav2vec2-conformer"): {
        "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16, "feature_layer": 1,
        "conv_width": 8, "codebook_size": 8, "target_codebook_size": 8, "num_mels": 16, "depthwise_kernel": 3,
    },
    ("joint_embedders", "mulan"): {
        "audio_hidden_size": 16, "audio_layers": 1, "audio_heads": 2, "text_hidden_size": 16, "text_layers": 1,
        "text_heads": 2, "vocabulary_size": 300, "max_text_tokens": 16, "num_mels": 32, "window_s": 1.0,
    },
}  # fmt: skip
for hifi in (("codecs", "hifi-vae"), ("token_codecs", "hifi-rvq")):
    SMALL[hifi] = {
        "encoder_rates": [2, 2], "encoder_widths": [4, 4], "encoder_kernels": [3, 3], "encoder_residual_kernels": [3],
        "encoder_units": 1, "decoder_rates": [2, 2], "decoder_widths": [4, 4], "decoder_kernels": [3, 3],
        "decoder_residual_kernels": [3], "decoder_input_width": 4, "latent_dim": 4,
    }  # fmt: skip
SMALL["language_models", "llama"] = {
    "num_prefix_tokens": 2, "prefix_codebook_size": 8, "codebook_size": 8, "hidden_size": 8, "num_layers": 1,
    "num_heads": 2, "feed_forward_size": 8,
}  # fmt: skip

LONGEST_S = 2.0
"""Of processor time; a second on an idle machine."""
NUMBERS = (0, -1, 1, 2, 3, 4, 5, 7, 8, 16, 25, 64, 100, 128, 1000, 1023, 8192, 32_768, 65_536, 24_000, 10**6, 10**9,
           2**31, 2**63, 10**12, 10**30, 10**400, 0.5, -0.5, 1e-9, 1e-300, 1e300,
           math.nan, math.inf, -math.inf, True)  # fmt: skip
OTHERS = ("", "many", "5", None, [], [[]], {}, b"x")


def components() -> list[tuple[str, str]]:
    """All with arguments, but for those that load files, which refuse before any size matters."""
    sized = [one for kind, one in REGISTRIES.items() if kind not in ("systems", "audio_embedders", "audio_taggers")]
    entries = [(one, entry) for one in sized for entry in one.entries() if entry.in_tree]
    return [(one.kind, entry.name) for one, entry in entries if one.parameters(entry.name)]


def numbers() -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(NUMBERS), st.integers(1, 200), st.sampled_from(OTHERS))


def arguments(one: Registry, name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Some arguments of a small component set to anything."""
    types = {parameter.name: parameter.type for parameter in one.parameters(name)}
    values = {
        argument: st.lists(numbers(), max_size=4) | numbers() if "tuple" in kind else numbers()
        for argument, kind in types.items()
    }
    some = st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3, unique=True)
    return some.flatmap(lambda chosen: st.fixed_dictionaries({argument: values[argument] for argument in chosen}))


def tried(
    one: Registry, name: str, given_arguments: dict[str, Any], *, direct: bool, longest_s: float = LONGEST_S
) -> None:
    """Build it, from a preset's table or in Python, and hold what comes of it to the terms."""
    begin = time.process_time()
    whole = {**SMALL.get((one.kind, name), {}), **given_arguments}
    refusal = ""
    try:
        if direct or one.base is None:
            one.get(name)(**whole)
        else:
            one.create(name, whole)
    except MelodyError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 1000
    assert "Input should" not in refusal or ", got " in refusal
    assert time.process_time() - begin < longest_s, whole


@pytest.mark.parametrize(("kind", "name"), components())
def test_any_value_is_built_or_one_line(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = registry(kind)
    monkeypatch.setattr(memory, "available_bytes", lambda: 200e6)
    if one.base is not None:
        tried(one, name, {}, direct=False, longest_s=60)  # imports are made

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(arguments(one, name), st.booleans())
    def holds(given_arguments: dict[str, Any], direct: bool) -> None:
        tried(one, name, given_arguments, direct=direct)

    holds()


@pytest.mark.parametrize(("kind", "name"), components())
def test_every_number_of_every_component_is_bounded(kind: str, name: str) -> None:
    for argument, hint in typing.get_type_hints(_function(registry(kind).get(name)), include_extras=True).items():
        if argument in ("return", "self"):
            continue
        innermost = hint
        while typing.get_origin(innermost) is tuple or typing.get_origin(innermost) is typing.Annotated:
            bounded = typing.get_origin(innermost) is typing.Annotated
            innermost = typing.get_args(innermost)[0]
            if innermost in (int, float):
                assert bounded, f"{argument} of {name} is a number without bounds"
        assert innermost not in (int, float) or hint is not innermost, f"{argument} of {name} has no bounds"


def _function(component: Any) -> Any:
    return component.__init__ if inspect.isclass(component) else component


@pytest.mark.parametrize("direct", [True, False])
def test_a_size_that_memory_cannot_hold_is_one_line(direct: bool) -> None:
    llama = {"hidden_size": 65_536, "num_layers": 128, "num_heads": 64, "feed_forward_size": 65_536}
    one = registry("language_models")
    with pytest.raises(
        MelodyError, match=r"language model 'llama': it needs more than .* GB of memory, and .* are free"
    ):
        one.get("llama")(**llama) if direct else one.create("llama", llama)


def test_a_large_build_draws_the_numbers_of_one_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> torch.Tensor:
        torch.manual_seed(3)
        built = registry("language_models").create("llama", SMALL["language_models", "llama"])
        return torch.cat([parameter.flatten() for parameter in built.parameters()])

    small = drawn()
    monkeypatch.setattr(memory, "FREELY", 100)
    assert torch.equal(drawn(), small)
