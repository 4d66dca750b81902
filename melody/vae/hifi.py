"""The paper's audio VAE (appendix B.1): strided residual CNN as encoder, HiFi-GAN as decoder; 24 kHz to 250 Hz × 16.

Printed are rates, widths, kernels of the changes of rate, and the two sizes (40M, 60.1M). What is not printed is ours,
and chosen so that both counts come within 1 % (40.17M and 59.71M, weight norms folded in): residual kernels, dilations,
convolutions, number of units, width of the decoder's first layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from melody.bounds import Blocks, Entries, Factor, Levels, SampleRate, Samples, Width
from melody.errors import MelodyError
from melody.registry import codecs, token_codecs
from melody.vae.residual import ResidualCodec
from melody.vae.variational import VariationalCodec

SLOPE = 0.1
"""Of the leaky ReLU: HiFi-GAN's (arXiv 2010.05646)."""
DILATIONS = (1, 3, 5)
"""Of a residual unit: HiFi-GAN V1's; the paper prints none."""
END_KERNEL = 7
"""First and last layer of the decoder, as HiFi-GAN's, and the encoder's last one; the paper prints none: ours."""


@dataclass(frozen=True)
class HifiSizes:
    """Sizes of encoder and decoder; see ``HifiVae``."""

    encoder_rates: tuple[int, ...]
    encoder_widths: tuple[int, ...]
    encoder_kernels: tuple[int, ...]
    encoder_residual_kernels: tuple[int, ...]
    encoder_units: int
    decoder_rates: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    decoder_kernels: tuple[int, ...]
    decoder_residual_kernels: tuple[int, ...]
    decoder_input_width: int


class HifiBackbone(nn.Module):
    """Residual CNN encoder and HiFi-GAN decoder (appendix B.1)."""

    hop_length: int

    def _build(self, name: str, encoded: int, latent_dim: int, sizes: HifiSizes) -> None:
        """Build the layers of an encoder that gives ``encoded`` channels and a decoder that takes ``latent_dim``."""
        encoder = (sizes.encoder_rates, sizes.encoder_widths, sizes.encoder_kernels)
        decoder = (sizes.decoder_rates, sizes.decoder_widths, sizes.decoder_kernels)
        _check_blocks(name, "encoder", *encoder, sizes.encoder_residual_kernels)
        _check_blocks(name, "decoder", *decoder, sizes.decoder_residual_kernels)
        if math.prod(sizes.encoder_rates) != math.prod(sizes.decoder_rates):
            raise MelodyError(
                f"{name}: encoder_rates {sizes.encoder_rates} and decoder_rates {sizes.decoder_rates} differ in their "
                "product"
            )
        if min(encoded, latent_dim, sizes.encoder_units, sizes.decoder_input_width) < 1:
            raise MelodyError(f"{name}: rate, widths and units must be at least 1")
        self.hop_length = math.prod(sizes.encoder_rates)
        self.encoder_blocks = nn.ModuleList(
            DownBlock(n_in, n_out, rate, kernel, sizes.encoder_residual_kernels, sizes.encoder_units)
            for rate, (n_in, n_out), kernel in _stack(1, encoder)
        )
        self.encoder_output = _conv(sizes.encoder_widths[-1], encoded, END_KERNEL)
        self.decoder_input = _conv(latent_dim, sizes.decoder_input_width, END_KERNEL)
        self.decoder_blocks = nn.ModuleList(
            UpBlock(n_in, n_out, rate, kernel, sizes.decoder_residual_kernels)
            for rate, (n_in, n_out), kernel in _stack(sizes.decoder_input_width, decoder)
        )
        self.decoder_output = _conv(sizes.decoder_widths[-1], 1, END_KERNEL)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Waveform ``(B, 1, L * hop_length)`` -> what the encoder gives, ``(B, L, width)``."""
        x = waveform  # (B, 1, L * hop)
        for block in self.encoder_blocks:
            x = block(x)  # (B, width, samples / rate)
        output: Tensor = self.encoder_output(F.leaky_relu(x, SLOPE))  # (B, encoded, L)
        return output.transpose(1, 2)

    def synthesize(self, latents: Tensor) -> Tensor:
        """Latents ``(B, L, D)`` -> waveform ``(B, 1, L * hop_length)``."""
        x = self.decoder_input(latents.transpose(1, 2))  # (B, width, L)
        for block in self.decoder_blocks:
            x = block(x)  # (B, width, frames * rate)
        return torch.tanh(self.decoder_output(F.leaky_relu(x, SLOPE)))  # (B, 1, L * hop)

    def remove_weight_norm(self) -> None:
        """Fold the norms into the weights: the same output, sooner. For inference, once the weights are loaded."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take weights with norms or with norms folded in, whichever this codec has itself."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                _adapt_norm(state_dict, f"{prefix}{name}.", parametrize.is_parametrized(module, "weight"))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@codecs.register("hifi-vae")
class HifiVae(HifiBackbone, VariationalCodec):
    """The paper's audio VAE: residual CNN encoder and HiFi-GAN decoder (appendix B.1).

    Args:
        latent_dim: 16 (appendix B.1).
        encoder_rates: down-sampling of each block; their product is the hop, 96 (appendix B.1).
        encoder_widths: channels after each (appendix B.1).
        encoder_kernels: kernel of each strided convolution, odd (appendix B.1).
        encoder_residual_kernels: kernels side by side in a residual unit; ours.
        encoder_units: residual units of two convolutions a dilation, after each change of rate; ours.
        decoder_rates: up-sampling of each block (appendix B.1).
        decoder_widths: channels after each (appendix B.1).
        decoder_kernels: kernel of each transposed convolution, odd (appendix B.1).
        decoder_residual_kernels: kernels side by side in the block's one residual unit, with one convolution a
            dilation; HiFi-GAN V1's kernels.
        decoder_input_width: channels before the first block; ours.
    Raises:
        MelodyError: lists of different lengths, an even kernel or one shorter than its rate, or two different hops.
    """

    def __init__(
        self,
        sample_rate: SampleRate = 24000,
        latent_dim: Width = 16,
        encoder_rates: Blocks[Factor] = (2, 3, 4, 4),
        encoder_widths: Blocks[Width] = (32, 64, 128, 256),
        encoder_kernels: Blocks[Samples] = (5, 7, 9, 9),
        encoder_residual_kernels: Blocks[Samples] = (3, 7, 9),
        encoder_units: Factor = 4,
        decoder_rates: Blocks[Factor] = (4, 4, 3, 2),
        decoder_widths: Blocks[Width] = (768, 384, 192, 96),
        decoder_kernels: Blocks[Samples] = (9, 9, 5, 7),
        decoder_residual_kernels: Blocks[Samples] = (3, 7, 11),
        decoder_input_width: Width = 1024,
    ) -> None:
        super().__init__()
        self.sample_rate, self.latent_dim = _positive("hifi-vae", sample_rate), latent_dim
        sizes = HifiSizes(
            encoder_rates,
            encoder_widths,
            encoder_kernels,
            encoder_residual_kernels,
            encoder_units,
            decoder_rates,
            decoder_widths,
            decoder_kernels,
            decoder_residual_kernels,
            decoder_input_width,
        )
        self._build("hifi-vae", 2 * latent_dim, latent_dim, sizes)

    @property
    def decoder_context_frames(self) -> int:
        reach = END_KERNEL // 2  # samples on each side, at the rate that the loop has come down to
        for block in reversed(self.decoder_blocks):
            assert isinstance(block, UpBlock)
            reach = -(-(reach + block.residual.reach + block.kernel_size) // block.rate)
        return reach + END_KERNEL // 2

    def statistics(self, waveform: Tensor) -> Tensor:
        return self.analyse(waveform)


@token_codecs.register("hifi-rvq")
class HifiRvq(HifiBackbone, ResidualCodec):
    """``hifi-vae`` with residual vector quantisation in place of the Gaussian, at 50 Hz (SoundStream kind).

    MusicLM's codec has 50 Hz, 12 levels of 1,024 at 24 kHz (arXiv 2301.11325, section 4.1); its size is not printed.
    All sizes but these are ours: those of ``hifi-vae`` with other rates, and entries of 128 (recalled: EnCodec's).

    Args:
        num_levels: tokens a frame.
        codebook_size: entries of each level's codebook.
        latent_dim: width of a codebook's entries.
        encoder_rates, …, decoder_input_width: as of ``hifi-vae``; the product of the rates is the hop, 480.
    Raises:
        MelodyError: as ``hifi-vae``, or a quantiser without levels or entries.
    """

    def __init__(
        self,
        sample_rate: SampleRate = 24000,
        num_levels: Levels = 12,
        codebook_size: Entries = 1024,
        latent_dim: Width = 128,
        encoder_rates: Blocks[Factor] = (3, 4, 5, 8),
        encoder_widths: Blocks[Width] = (32, 64, 128, 256),
        encoder_kernels: Blocks[Samples] = (7, 9, 11, 17),
        encoder_residual_kernels: Blocks[Samples] = (3, 7, 9),
        encoder_units: Factor = 4,
        decoder_rates: Blocks[Factor] = (8, 5, 4, 3),
        decoder_widths: Blocks[Width] = (768, 384, 192, 96),
        decoder_kernels: Blocks[Samples] = (17, 11, 9, 7),
        decoder_residual_kernels: Blocks[Samples] = (3, 7, 11),
        decoder_input_width: Width = 1024,
    ) -> None:
        super().__init__()
        self.sample_rate = _positive("hifi-rvq", sample_rate)
        sizes = HifiSizes(
            encoder_rates,
            encoder_widths,
            encoder_kernels,
            encoder_residual_kernels,
            encoder_units,
            decoder_rates,
            decoder_widths,
            decoder_kernels,
            decoder_residual_kernels,
            decoder_input_width,
        )
        self._build("hifi-rvq", latent_dim, latent_dim, sizes)
        self._quantize(num_levels, codebook_size, latent_dim)


def _positive(name: str, sample_rate: int) -> int:
    if sample_rate < 1:
        raise MelodyError(f"{name}: rate, widths and units must be at least 1")
    return sample_rate


def _stack(
    first: int, blocks: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
) -> Iterator[tuple[int, tuple[int, int], int]]:
    """Rate, channels in and out, and kernel of each block."""
    rates, widths, kernels = blocks
    return zip(rates, pairwise((first, *widths)), kernels, strict=True)


def _adapt_norm(state: dict[str, Any], prefix: str, wanted: bool) -> None:
    """Split a convolution's weight into gain and direction, or put the two together: ``w = g·v/‖v‖``."""
    weight, gain, direction = (f"{prefix}{name}" for name in ("weight", f"{_NORM}0", f"{_NORM}1"))
    if wanted and weight in state:
        state[direction] = state.pop(weight)
        state[gain] = torch.linalg.vector_norm(state[direction], dim=(1, 2), keepdim=True)
    elif not wanted and gain in state and direction in state:
        g, v = state.pop(gain), state.pop(direction)
        state[weight] = v * (g / torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True))


_NORM = "parametrizations.weight.original"
"""torch's name of the gain (0) and the direction (1)."""


class DownBlock(nn.Module):
    """Strided convolution, then residual units at the lower rate."""

    def __init__(
        self, n_in: int, n_out: int, rate: int, kernel_size: int, residual_kernels: Sequence[int], units: int
    ) -> None:
        super().__init__()
        self.down = weight_norm(nn.Conv1d(n_in, n_out, kernel_size, rate, (kernel_size - 1) // 2))
        self.residual = nn.Sequential(*(ResidualUnit(n_out, residual_kernels, convolutions=2) for _ in range(units)))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, n_in, N * rate) -> (B, n_out, N)``."""
        # A waveform goes in as it is: a non-linearity before the first layer would only lose its negative half.
        x = self.down(F.leaky_relu(x, SLOPE) if x.shape[1] > 1 else x)
        output: Tensor = self.residual(x)
        return output


class UpBlock(nn.Module):
    """Transposed convolution, then one residual unit at the higher rate (HiFi-GAN, section 2.2)."""

    def __init__(self, n_in: int, n_out: int, rate: int, kernel_size: int, residual_kernels: Sequence[int]) -> None:
        super().__init__()
        self.rate, self.kernel_size = rate, kernel_size
        padding = -(-(kernel_size - rate) // 2)
        extra = 2 * padding - kernel_size + rate
        self.up = weight_norm(nn.ConvTranspose1d(n_in, n_out, kernel_size, rate, padding, extra))
        self.residual = ResidualUnit(n_out, residual_kernels, convolutions=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, n_in, N) -> (B, n_out, N * rate)``."""
        output: Tensor = self.residual(self.up(F.leaky_relu(x, SLOPE)))
        return output


class ResidualUnit(nn.Module):
    """Chains of dilated residual convolutions, one a kernel, averaged (HiFi-GAN's multi-receptive-field fusion)."""

    def __init__(self, width: int, kernels: Sequence[int], convolutions: int) -> None:
        super().__init__()
        self.chains = nn.ModuleList(
            nn.ModuleList(ResidualStep(width, kernel, dilation, convolutions) for dilation in DILATIONS)
            for kernel in kernels
        )
        # Samples on each side that an output depends on.
        self.reach = max(kernels) // 2 * (sum(DILATIONS) + (convolutions - 1) * len(DILATIONS))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, N) -> (B, width, N)``."""
        total = torch.zeros_like(x)
        for chain in self.chains:
            y = x
            for step in chain:  # type: ignore[attr-defined]
                y = step(y)
            total = total + y
        return total / len(self.chains)


class ResidualStep(nn.Module):
    """One dilated convolution, and undilated ones after it, added to the input (HiFi-GAN, appendix A)."""

    def __init__(self, width: int, kernel_size: int, dilation: int, convolutions: int) -> None:
        super().__init__()
        dilations = [dilation] + [1] * (convolutions - 1)
        self.layers = nn.ModuleList(_conv(width, width, kernel_size, d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, N) -> (B, width, N)``."""
        y = x
        for layer in self.layers:
            y = layer(F.leaky_relu(y, SLOPE))
        return x + y


def _conv(n_in: int, n_out: int, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    padding = dilation * (kernel_size // 2)
    convolution: nn.Conv1d = weight_norm(nn.Conv1d(n_in, n_out, kernel_size, dilation=dilation, padding=padding))
    return convolution


def _check_blocks(
    name: str,
    part: str,
    rates: Sequence[int],
    widths: Sequence[int],
    kernels: Sequence[int],
    residual_kernels: Sequence[int],
) -> None:
    if not len(rates) == len(widths) == len(kernels) > 0:
        raise MelodyError(
            f"{name}: {len(rates)} {part}_rates, {len(widths)} {part}_widths, {len(kernels)} {part}_kernels: "
            "expected as many of each"
        )
    if min(*rates, *widths, *kernels) < 1 or not residual_kernels:
        raise MelodyError(
            f"{name}: {part} rates, widths and kernels must be at least 1, with one residual kernel or more"
        )
    if even := [k for k in (*kernels, *residual_kernels) if k % 2 == 0]:
        raise MelodyError(f"{name}: {part} kernels {even} are even, expected odd ones, which keep frames centred")
    if short := [k for k, rate in zip(kernels, rates, strict=True) if k < rate]:
        raise MelodyError(f"{name}: {part} kernels {short} are shorter than their rates, which would skip samples")
