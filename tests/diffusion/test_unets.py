"""The U-Nets of Table 5's comparison: sizes, any length, angles a frame, conditioning, samplers, bad input."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from melody import registry
from melody.config import Preset, load_preset
from melody.diffusion.guidance import guided_velocity
from melody.errors import MelodyError
from melody.pipeline import build_part
from melody.samplers.loop import sample

pytest.importorskip("diffusers")

DATA: dict[str, Any] = {"latent_dim": 6, "frame_rate": 50.0, "codebook_size": 11}
SMALL: dict[str, dict[str, Any]] = {
    "a-unet": {
        **DATA,
        "channels": (8, 16),
        "factors": (1, 2),
        "items": (1, 2),
        "attention": (False, True),
        "heads": 2,
        "head_dim": 4,
        "semantic_dim": 8,
        "angle_embedding_dim": 6,
        "position_channels": 4,
        "norm_groups": 2,
    },
    "unet-1d": {
        **DATA,
        "channels": (8, 16),
        "factors": (1, 2),
        "items": (1, 2),
        "attention": (False, True),
        "head_dim": 4,
        "semantic_dim": 8,
        "angle_embedding_dim": 6,
    },
    "unet-2d": {
        **DATA,
        "channels": (4, 8),
        "layers": 1,
        "attention": (False, True),
        "heads": 2,
        "semantic_dim": 8,
        "position_channels": 4,
        "norm_groups": 2,
    },
}
LENGTH, TOKENS = 37, 19


@pytest.fixture(params=sorted(SMALL))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "a-unet":
        pytest.importorskip("a_unet")
    return str(request.param)


@pytest.fixture
def network(name: str) -> Any:
    torch.manual_seed(0)
    network = registry.denoisers.create(name, SMALL[name]).eval()
    out = network.network.conv_out if name == "unet-2d" else network.latents_out
    with torch.no_grad():  # an output of the size of a trained network's, so that tolerances mean something
        out.weight.mul_(20)
    return network


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(3, LENGTH, 6, generator=generator)
    angle = torch.rand(3, LENGTH, generator=generator) * math.pi / 2
    tokens = torch.randint(11, (3, TOKENS), generator=generator)
    return latents, angle, tokens


def rows(*marks: bool) -> Tensor:
    return torch.tensor(marks)


def parameters_of(preset: str) -> int:
    if load_preset(preset).denoiser.use == "a-unet":
        pytest.importorskip("a_unet")
    with torch.device("meta"):
        module = build_part(load_preset(preset), "denoiser")
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", ["paper-unet-1d", "paper-unet-2d"])
def test_the_papers_size(preset: str) -> None:
    assert parameters_of(preset) == pytest.approx(300e6, rel=0.02)  # "about 300M", Table 5


@pytest.mark.parametrize("preset", ["demo-unet-1d", "demo-unet-2d"])
def test_the_demos_size(preset: str) -> None:
    assert parameters_of(preset) == pytest.approx(parameters_of("demo"), rel=0.02)


def test_the_study_compares_networks_of_one_size_on_one_recipe() -> None:
    names = ("table5-dual-path", "table5-unet-1d", "table5-unet-2d")
    counts = [parameters_of(name) for name in names]
    assert max(counts) < 1.02 * min(counts)
    for name in names:
        preset, first, demo = load_preset(name), load_preset(names[0]), load_preset("demo")
        assert preset.training == first.training
        assert (preset.codec, preset.semantic_tokenizer) == (demo.codec, demo.semantic_tokenizer)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 33])
def test_any_length(network: Any, length: int) -> None:
    latents, angle = torch.randn(2, length, 6), torch.rand(2, length)
    velocity = network(latents, angle, network.prepare(torch.tensor([[1, 2], [3, 4]])), rows(False, True))
    assert velocity.shape == latents.shape
    assert velocity.isfinite().all()


def test_an_odd_latent_width() -> None:
    network = registry.denoisers.create("unet-2d", {**SMALL["unet-2d"], "latent_dim": 5})
    latents = torch.randn(1, 9, 5)
    assert network(latents, torch.rand(1, 9), network.prepare(torch.tensor([[1, 2]]))).shape == latents.shape


def test_a_row_alone_and_in_a_batch(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    unconditional = rows(False, True, False)
    together = network(latents, angle, network.prepare(tokens), unconditional)
    for i in range(3):
        row = slice(i, i + 1)
        alone = network(latents[row], angle[row], network.prepare(tokens[row]), unconditional[row])
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)


def test_no_mask_means_that_all_rows_see_the_tokens(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    condition = network.prepare(tokens)
    unmasked = network(latents, angle, condition)
    torch.testing.assert_close(unmasked, network(latents, angle, condition, rows(False, False, False)))


def test_only_conditional_rows_depend_on_the_tokens(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    mask = rows(True, False, True)
    first = network(latents, angle, network.prepare(tokens), mask)
    second = network(latents, angle, network.prepare((tokens + 1) % 11), mask)
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_order_of_tokens_matters(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    forward = network(latents, angle, network.prepare(tokens))
    backward = network(latents, angle, network.prepare(tokens.flip(1)))
    assert (forward - backward).abs().max() > 1e-3


def test_a_change_of_the_angle_is_felt_most_where_it_is(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    condition = network.prepare(tokens)
    changed = angle.clone()
    changed[0, 10:14] = math.pi / 2 - changed[0, 10:14]
    difference = (network(latents, angle, condition) - network(latents, changed, condition)).abs().mean(dim=2)
    assert (difference[1:] == 0).all(), "another row"
    assert difference[0, 10:14].mean() > 2 * torch.cat([difference[0, :10], difference[0, 14:]]).mean()


def test_repeating_the_condition_is_repeating_the_tokens(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    mask = rows(False, False, False, True, True, True)
    twice = (torch.cat([latents] * 2), torch.cat([angle] * 2))
    repeated = network(*twice, network.repeat(network.prepare(tokens), 2), mask)
    torch.testing.assert_close(repeated, network(*twice, network.prepare(torch.cat([tokens] * 2)), mask))


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_any_sampler_drives_them(network: Any, inputs: tuple[Tensor, Tensor, Tensor], sampler: str) -> None:
    _, _, tokens = inputs
    noise = torch.randn(3, LENGTH, 6, generator=torch.Generator().manual_seed(2))
    velocity = guided_velocity(network, network.prepare(tokens), 2.5)
    with torch.no_grad():
        latents = sample(velocity, noise, sampler=sampler, grid="melody-linear", num_steps=3)
    assert latents.shape == noise.shape
    assert latents.isfinite().all()


def test_runs_with_bf16_weights(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    mask = rows(False, True, False)
    expected = network(latents, angle, network.prepare(tokens), mask)
    network.bfloat16()
    velocity = network(latents.bfloat16(), angle.bfloat16(), network.prepare(tokens), mask)
    assert velocity.dtype == torch.bfloat16
    torch.testing.assert_close(velocity.float(), expected, rtol=0.1, atol=0.2 * float(expected.detach().std()))


def test_every_parameter_learns(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    network.train()
    network(latents, angle, network.prepare(tokens), rows(False, True, False)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert without == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_starts_near_the_velocity_0(name: str) -> None:
    torch.manual_seed(0)
    network = registry.denoisers.create(name, SMALL[name])
    velocity = network(torch.randn(2, 40, 6), torch.rand(2, 40), network.prepare(torch.zeros(2, 20, dtype=torch.long)))
    assert 0 < velocity.square().mean() < 0.05


def test_learns_a_constant_velocity_of_tokens(name: str) -> None:
    torch.manual_seed(0)
    network = registry.denoisers.create(name, SMALL[name])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    tokens = torch.tensor([[1] * 8, [2] * 8])
    target = torch.tensor([1.0, -1.0])[:, None, None].expand(2, 16, 6)
    for _ in range(60):
        velocity = network(torch.randn(2, 16, 6), torch.rand(2, 16), network.prepare(tokens))
        loss = (velocity - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


def test_a_copy_shares_nothing_with_the_original(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """What training averages is a copy; a-unet's layers hold one another by closures."""
    latents, angle, tokens = inputs
    state = torch.get_rng_state()
    copied = copy.deepcopy(network).requires_grad_(False)
    assert torch.equal(state, torch.get_rng_state())
    expected = network(latents, angle, network.prepare(tokens))
    assert torch.equal(copied(latents, angle, copied.prepare(tokens)), expected)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(copied(latents, angle, copied.prepare(tokens)), expected)


def test_the_papers_unet_1d_is_the_library_that_it_names() -> None:
    """Appendix E, footnote 11."""
    assert load_preset("paper-unet-1d").denoiser.use == "a-unet"
    pytest.importorskip("a_unet")
    with torch.device("meta"):
        module = build_part(load_preset("paper-unet-1d"), "denoiser")
    assert any(type(part).__module__.startswith("a_unet.") for part in module.modules())


def test_weights_survive_a_folder(
    name: str, network: Any, inputs: tuple[Tensor, Tensor, Tensor], tmp_path: Path
) -> None:
    latents, angle, tokens = inputs
    network.save_pretrained(tmp_path, dtype="float32")
    again: nn.Module = type(network).from_pretrained(tmp_path)
    assert torch.equal(again(latents, angle, again.prepare(tokens)), network(latents, angle, network.prepare(tokens)))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a-unet", {"channels": ()}, "channels: Tuple should have at least 1 item"),
        ("a-unet", {"attention": (True,)}, "attention has 1 values: expected one for each of the 2 levels"),
        ("a-unet", {"norm_groups": 3}, "channels holds 8: expected multiples of norm_groups = 3"),
        ("a-unet", {"position_channels": 3}, "position_channels is 3"),
        ("unet-1d", {"channels": ()}, "channels: Tuple should have at least 1 item"),
        ("unet-1d", {"factors": (1,)}, "factors has 1 values: expected one for each of the 2 levels"),
        ("unet-1d", {"items": (1, 0)}, "items.1: Input should be greater than or equal to 1, got 0"),
        ("unet-1d", {"head_dim": 3}, "head_dim is 3"),
        ("unet-1d", {"head_dim": 6}, "channels holds 16, of a level that attends: expected multiples of 6"),
        ("unet-2d", {"attention": (True,)}, "attention has 1 values: expected one for each of the 2 levels"),
        ("unet-2d", {"layers": 0}, "layers: Input should be greater than or equal to 1, got 0"),
        ("unet-2d", {"norm_groups": 3}, "channels holds 4: expected multiples of norm_groups = 3"),
        ("unet-2d", {"heads": 3}, "expected multiples of heads = 3"),
        ("unet-2d", {"position_channels": 3}, "position_channels is 3"),
    ],
)
def test_sizes_that_do_not_fit(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        registry.denoisers.create(name, {**SMALL[name], **change})


def test_bad_inputs_are_named(network: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    condition = network.prepare(tokens)
    with pytest.raises(MelodyError, match=r"latents have shape .* expected \(batch, frames, 6\)"):
        network(torch.randn(3, LENGTH, 5), angle, condition)
    with pytest.raises(MelodyError, match=r"angle has shape .* one a frame"):
        network(latents, angle[:, 0], condition)
    with pytest.raises(MelodyError, match="3 rows for 2 rows"):
        network(latents[:2], angle[:2], condition)
    with pytest.raises(MelodyError, match="unconditional is"):
        network(latents, angle, condition, torch.zeros(3))
    with pytest.raises(MelodyError, match="there are 0 latent frames"):
        network(latents[:, :0], angle[:, :0], condition)
    with pytest.raises(MelodyError, match=r"lie in \[11, 11\]"):
        network.prepare(torch.tensor([[11]]))


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("unet-2d", "diffusers", "diffusers"), ("a-unet", "a_unet.apex", "a-unet")]
)
def test_without_its_package_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MelodyError, match=rf'pip install "\.\[{extra}\]"') as caught:
        registry.denoisers.create(name, SMALL[name])
    assert "\n" not in str(caught.value)


def test_presets_differ_in_the_denoiser_alone() -> None:
    for base, other in (("paper", "paper-unet-1d"), ("paper", "paper-unet-2d"), ("demo", "demo-unet-1d")):
        changed: Preset = load_preset(other)
        same = {"name", "description", "base", "denoiser"}
        assert load_preset(base).model_dump(exclude=same) == changed.model_dump(exclude=same)
