"""The dual-path denoiser: size, invariances, conditioning, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from melody import registry
from melody.diffusion.dual_path import DualPathDenoiser
from melody.diffusion.segments import Segmentation
from melody.errors import MelodyError

SMALL: dict[str, Any] = {
    "latent_dim": 4,
    "hidden_size": 16,
    "num_blocks": 3,
    "segment_size": 8,
    "frame_rate": 50.0,
    "codebook_size": 11,
    "angle_embedding_dim": 6,
    "merge_widths": (4, 2, 8),
    "num_heads": 2,
    "coarse_layers": 2,
    "feed_forward_size": 24,
    "recurrent_size": 8,
}
LENGTH, TOKENS = 37, 19


@pytest.fixture
def network() -> DualPathDenoiser:
    torch.manual_seed(0)
    network = DualPathDenoiser(**SMALL).eval()
    with torch.no_grad():  # an output of the size of a trained network's, so that tolerances mean something
        network.latents_out.weight.mul_(20)
    return network


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(3, LENGTH, 4, generator=generator)
    angle = torch.rand(3, LENGTH, generator=generator) * math.pi / 2
    tokens = torch.randint(11, (3, TOKENS), generator=generator)
    return latents, angle, tokens


def rows(*marks: bool) -> Tensor:
    return torch.tensor(marks)


def test_the_default_has_the_papers_size() -> None:
    with torch.device("meta"):
        network = registry.denoisers.create("dual-path")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(296.6e6, rel=0.01)  # main text of the paper


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 31, 32, 33])
def test_any_length(network: DualPathDenoiser, length: int) -> None:
    latents, angle = torch.randn(2, length, 4), torch.rand(2, length)
    velocity = network(latents, angle, network.prepare(torch.tensor([[1, 2], [3, 4]])), rows(False, True))
    assert velocity.shape == latents.shape
    assert velocity.isfinite().all()


@pytest.mark.parametrize("length", [1, 5, LENGTH])
def test_more_padding_changes_nothing(
    network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, angle, tokens = inputs
    arguments = (latents[:, :length], angle[:, :length], network.prepare(tokens), rows(False, True, False))
    expected = network(*arguments)
    fewest = Segmentation.of

    def more(length: int, size: int) -> Segmentation:
        return Segmentation(length, size, fewest(length, size).num_segments + 3)

    monkeypatch.setattr(Segmentation, "of", more)
    torch.testing.assert_close(network(*arguments), expected, rtol=0, atol=1e-5)


def test_padding_is_zero_between_blocks(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    padding = Segmentation.of(LENGTH, 8).padding()
    seen = []

    def look(block: torch.nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        seen.extend([arguments[0], output])

    for block in network.blocks:
        block.register_forward_hook(look)
    network(latents, angle, network.prepare(tokens))
    assert len(seen) == 6
    for tensor in seen:
        held = tensor.transpose(1, 2)  # (K, S, B, d)
        assert (held[padding] == 0).all()
        assert (held[~padding] != 0).any(dim=-1).all()


def test_a_row_alone_and_in_a_batch(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    unconditional = rows(False, True, False)
    together = network(latents, angle, network.prepare(tokens), unconditional)
    for i in range(3):
        row = slice(i, i + 1)
        alone = network(latents[row], angle[row], network.prepare(tokens[row]), unconditional[row])
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)


def test_runs_with_bf16_weights(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    mask = rows(False, True, False)
    expected = network(latents, angle, network.prepare(tokens), mask)
    network.bfloat16()
    velocity = network(latents.bfloat16(), angle.bfloat16(), network.prepare(tokens), mask)
    assert velocity.dtype == torch.bfloat16
    torch.testing.assert_close(velocity.float(), expected, rtol=0.1, atol=0.1 * float(expected.std()))


def test_no_mask_means_that_all_rows_see_the_tokens(
    network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    latents, angle, tokens = inputs
    condition = network.prepare(tokens)
    torch.testing.assert_close(
        network(latents, angle, condition), network(latents, angle, condition, rows(False, False, False))
    )


def test_only_conditional_rows_depend_on_the_tokens(
    network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    latents, angle, tokens = inputs
    mask = rows(True, False, True)
    first = network(latents, angle, network.prepare(tokens), mask)
    second = network(latents, angle, network.prepare((tokens + 1) % 11), mask)
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert (first[1] - second[1]).abs().max() > 1e-2


def test_unconditional_attention_uses_the_same_weights_on_the_hidden_sequence(network: DualPathDenoiser) -> None:
    attention = network.blocks[0].coarse_layers[0].cross_attention
    segmentation = Segmentation.of(LENGTH, 8)
    columns = network._columns(segmentation, segmentation.padding(), 4)
    x = torch.randn(4, 1, segmentation.num_segments, 16)
    replaced = attention._to_itself(columns.rotation(attention.queries(x).unflatten(-1, (2, -1))), x, columns)
    for column in range(4):  # the hidden sequence of a column in the place of the tokens
        real = columns.mask[column].flatten() == 0
        times = (segmentation.frame_positions().view(4, 2, -1).float().mean(dim=1)[column, real] + 0.5) / 2
        memory = attention.remember(x[column][:, real], type(columns.rotation).at(times[:, None], 8))
        expected = attention(x[column : column + 1], _column(columns, column), memory, None)
        torch.testing.assert_close(attention.out(replaced[column : column + 1]), expected)


def _column(columns: Any, column: int) -> Any:
    rotation = type(columns.rotation)(
        columns.rotation.cos[column : column + 1], columns.rotation.sin[column : column + 1]
    )
    return type(columns)(rotation, columns.mask[column : column + 1])


def test_order_of_tokens_matters(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    forward = network(latents, angle, network.prepare(tokens))
    backward = network(latents, angle, network.prepare(tokens.flip(1)))
    assert (forward - backward).abs().max() > 1e-3


def test_a_change_of_the_angle_is_felt_most_where_it_is(
    network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    latents, angle, tokens = inputs
    condition = network.prepare(tokens)
    changed = angle.clone()
    changed[0, 10:14] = math.pi / 2 - changed[0, 10:14]
    difference = (network(latents, angle, condition) - network(latents, changed, condition)).abs().mean(dim=2)
    assert (difference[1:] == 0).all(), "another row"
    assert difference[0, 10:14].mean() > 2 * torch.cat([difference[0, :10], difference[0, 14:]]).mean()


def test_embedding_of_the_angle_interpolates(network: DualPathDenoiser) -> None:
    embedding = network.angle_embedding
    ends = embedding(torch.tensor([[0.0, math.pi / 2]]))[0]
    torch.testing.assert_close(ends[0], embedding.mlp(embedding.start))
    torch.testing.assert_close(ends[1], embedding.mlp(embedding.end), rtol=1e-4, atol=1e-5)


def test_the_condition_is_computed_once(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    calls = []
    network.semantic_embedding.register_forward_hook(lambda *_: calls.append("embedding"))
    condition = network.prepare(tokens)
    for block in network.blocks:
        for layer in block.coarse_layers:
            layer.cross_attention.keys_values.register_forward_hook(lambda *_: calls.append("keys and values"))
    for _ in range(3):
        network(latents, angle, condition)
    assert calls == ["embedding"]


def test_repeating_the_condition_is_repeating_the_tokens(
    network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    latents, angle, tokens = inputs
    mask = rows(False, False, False, True, True, True)
    twice = (torch.cat([latents] * 2), torch.cat([angle] * 2))
    repeated = network(*twice, network.repeat(network.prepare(tokens), 2), mask)
    torch.testing.assert_close(repeated, network(*twice, network.prepare(torch.cat([tokens] * 2)), mask))


def test_every_parameter_learns(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    network.train()
    network(latents, angle, network.prepare(tokens), rows(False, True, False)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert without == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_starts_near_the_velocity_0() -> None:
    torch.manual_seed(0)
    network = DualPathDenoiser(**SMALL)
    velocity = network(torch.randn(2, 40, 4), torch.rand(2, 40), network.prepare(torch.zeros(2, 20, dtype=torch.long)))
    assert 0 < velocity.square().mean() < 0.05


def test_learns_a_constant_velocity_of_tokens() -> None:
    torch.manual_seed(0)
    network = DualPathDenoiser(**SMALL)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    tokens = torch.tensor([[1] * 8, [2] * 8])
    target = torch.tensor([1.0, -1.0])[:, None, None].expand(2, 16, 4)
    for _ in range(40):
        velocity = network(torch.randn(2, 16, 4), torch.rand(2, 16), network.prepare(tokens))
        loss = (velocity - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "hidden_size is 16"),
        ({"segment_size": 7}, "segment_size is 7"),
        ({"merge_widths": (4, 2)}, "merge_widths has 2 widths"),
        ({"merge_widths": (4, 2, 3)}, "merge_widths holds 3"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        DualPathDenoiser(**{**SMALL, **change})


def test_bad_inputs_are_named(network: DualPathDenoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, angle, tokens = inputs
    condition = network.prepare(tokens)
    with pytest.raises(MelodyError, match=r"latents have shape .* expected \(batch, frames, 4\)"):
        network(torch.randn(3, LENGTH, 5), angle, condition)
    with pytest.raises(MelodyError, match=r"angle has shape .* one a frame"):
        network(latents, angle[:, 0], condition)
    with pytest.raises(MelodyError, match="3 rows for 2 rows"):
        network(latents[:2], angle[:2], condition)
    with pytest.raises(MelodyError, match="unconditional is"):
        network(latents, angle, condition, torch.zeros(3))
    with pytest.raises(MelodyError, match="there are 0 latent frames"):
        network(latents[:, :0], angle[:, :0], condition)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([[11]]), r"lie in \[11, 11\]: expected \[0, 10\]"),
        (torch.tensor([[-1]]), r"lie in \[-1, -1\]"),
        (torch.zeros(2, 0, dtype=torch.long), "1 token or more"),
        (torch.zeros(2, dtype=torch.long), "shape"),
        (torch.zeros(2, 3), "expected integers"),
    ],
)
def test_bad_tokens_are_named(network: DualPathDenoiser, tokens: Tensor, message: str) -> None:
    with pytest.raises(MelodyError, match=message):
        network.prepare(tokens)
