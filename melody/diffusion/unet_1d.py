"""A one-dimensional U-Net over latent frames, to compare with the dual-path network (Table 5 of the paper).

In the kind of Moûsai's (Schneider et al. 2023, arXiv 2301.11757, section 3): levels of residual convolutions that are
modulated by the noise level, and attention to the sequence itself and to the tokens at the coarser levels; strided
convolutions lead down, transposed ones up, beside skip connections. The paper's UNet-1D relied on the a-unet library
(appendix E, footnote 11), which is the component ``a-unet``; this network is ours, needs no other package, and is what
our small study compares. What differs from the kind:

- The angle belongs to a frame. Its embedding, averaged over the frames of a coarser one, modulates every place by
  itself (FiLM), where one time step for all would not do. For the same reason normalisation is of every frame by itself
  and not over groups of channels and time: the statistics of one chunk would tell of the angles of the others.
- Attention is the coarse path's of the dual-path network: rotary positions of frames and tokens on one time axis, and
  unconditional rows attend to themselves in the place of the tokens, by the same weights. So the networks compared know
  the same, in the same form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.bounds import Blocks, Entries, Factor, PerSecond, Times, Width
from melody.diffusion.attention import Columns, CrossAttention, Guidance, Memory, RoformerLayer
from melody.diffusion.inputs import AngleEmbedding, Condition, check_inputs, check_levels, check_tokens, mlp
from melody.diffusion.norm import RMSNorm
from melody.errors import MelodyError
from melody.nn.rotary import Rotation
from melody.protocols import Denoiser
from melody.registry import denoisers


@denoisers.register("unet-1d")
class UNet1d(nn.Module, Denoiser):
    """One-dimensional U-Net that predicts the velocity of noisy latents.

    Defaults are for the paper's data and about the size of its study, 300M parameters.

    Args:
        latent_dim: width D of a latent frame.
        frame_rate: latent frames a second.
        codebook_size: how many semantic tokens there are.
        token_rate: semantic tokens a second.
        channels: width of every level, from the finest to the coarsest.
        factors: by how much every level is coarser than the one before it; the first, than the latents.
        items: residual blocks of every level, on the way down and again on the way up (the coarsest: once).
        attention: which levels attend, to themselves and to the tokens, after every residual block.
        head_dim: width of a head of attention.
        feed_forward_factor: inner width of SwiGLU in every attention layer, in channels of the level.
        semantic_dim: width of the embedding of tokens and angles.
        angle_embedding_dim: width of the two vectors between which the angle interpolates.
    Raises:
        MelodyError: sizes that do not fit together.
    """

    def __init__(
        self,
        latent_dim: Width = 16,
        frame_rate: PerSecond = 250.0,
        codebook_size: Entries = 1024,
        token_rate: PerSecond = 25.0,
        channels: Blocks[Width] = (256, 512, 512, 1024, 1024),
        factors: Blocks[Factor] = (1, 2, 2, 2, 2),
        items: Blocks[Factor] = (2, 2, 2, 4, 3),
        attention: Blocks[bool] = (False, False, True, True, True),
        head_dim: Width = 64,
        feed_forward_factor: Times = 2.0,
        semantic_dim: Width = 768,
        angle_embedding_dim: Width = 256,
    ) -> None:
        super().__init__()
        check_levels(channels, factors=factors, items=items, attention=attention)
        _check_heads(channels, attention, head_dim)
        self.latent_dim = latent_dim
        self.codebook_size = codebook_size
        self.factors = factors
        self.head_dim = head_dim
        self.frames_per_token = frame_rate / token_rate
        self.latents_in = nn.Conv1d(latent_dim, channels[0], 1)
        self.angle_embedding = AngleEmbedding(angle_embedding_dim, semantic_dim)
        self.semantic_embedding = nn.Embedding(codebook_size, semantic_dim)
        self.semantic_mlp = mlp(semantic_dim, semantic_dim)
        levels = [
            (width, count, head_dim if attends else None, feed_forward_factor, semantic_dim)
            for width, count, attends in zip(channels, items, attention, strict=True)
        ]
        self.down = nn.ModuleList(Level(*level) for level in levels)
        self.up = nn.ModuleList(Level(*level) for level in reversed(levels[:-1]))
        widths = [channels[0], *channels]
        self.shrink = nn.ModuleList(
            nn.Conv1d(before, after, factor, factor)
            for before, after, factor in zip(widths, channels, factors, strict=False)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(after, before, factor, factor)
            for before, after, factor in reversed(list(zip(widths, channels, factors, strict=False)))
        )
        self.merge = nn.ModuleList(nn.Conv1d(2 * width, width, 1) for width in reversed(channels[:-1]))
        self.norm_out = FrameNorm(channels[0])
        self.latents_out = nn.Conv1d(channels[0], latent_dim, 1)
        # As the dual-path network: starts near the velocity 0, yet passes gradients from step one.
        nn.init.normal_(self.latents_out.weight, std=0.02)
        nn.init.zeros_(self.latents_out.bias)  # type: ignore[arg-type]

    def prepare(self, semantic_tokens: Tensor) -> Condition:
        """Embedding of tokens ``(B, N)``: its mean, and the keys and values of every attention to it.

        Raises:
            MelodyError: not a batch of token sequences, or a token outside the codebook.
        """
        check_tokens(semantic_tokens, self.codebook_size)
        embedding = self.semantic_mlp(self.semantic_embedding(semantic_tokens))  # (B, N, semantic_dim)
        times = torch.arange(semantic_tokens.shape[1], device=embedding.device) + 0.5
        rotation = Rotation.at(times[:, None], self.head_dim)
        memories = [memory for level in (*self.down, *self.up) for memory in level.remember(embedding, rotation)]
        return Condition(embedding.mean(dim=1), tuple(memories))

    def repeat(self, condition: Condition, times: int) -> Condition:
        """The condition for ``times`` copies of the rows, in the order of ``torch.cat([x] * times)``."""
        return condition.repeated(times)

    def forward(
        self, latents: Tensor, angle: Tensor, condition: Condition, unconditional: Tensor | None = None
    ) -> Tensor:
        """Latents ``(B, L, D)``, angle ``(B, L)``, condition of ``prepare`` -> velocity ``(B, L, D)``, for any L > 0.

        Frames are padded with zeros to a multiple of all factors; attention does not see what holds padding only.

        Raises:
            MelodyError: shapes that do not fit together.
        """
        check_inputs(latents, angle, condition.rows, unconditional, latent_dim=self.latent_dim)
        length = latents.shape[1]
        modulation = self.angle_embedding(angle) + condition.mean_seen(unconditional)[:, None]  # (B, L, semantic_dim)
        padding = -length % math.prod(self.factors)
        x = F.pad(latents.transpose(1, 2), (0, padding))  # (B, D, L')
        modulation = F.pad(modulation.transpose(1, 2), (0, padding), mode="replicate")  # (B, semantic_dim, L')
        guidance = None if unconditional is None else Guidance.of(unconditional)
        memories = iter(condition.memories)

        x = self.latents_in(x)
        skips, stride = [], 1
        scales = []
        for shrink, factor, level in zip(self.shrink, self.factors, self.down, strict=True):
            stride *= factor
            x, modulation = shrink(x), F.avg_pool1d(modulation, factor)
            scales.append((modulation, self._columns(x.shape[2], stride, length, x.device)))
            x = level(x, *scales[-1], guidance, memories)  # (B, channels, L' / stride)
            skips.append(x)
        for grow, merge, level, skip, scale in zip(
            self.grow, self.merge, self.up, skips[-2::-1], scales[-2::-1], strict=False
        ):
            x = level(merge(torch.cat([grow(x), skip], dim=1)), *scale, guidance, memories)
        velocity: Tensor = self.latents_out(self.norm_out(self.grow[-1](x)))[:, :, :length].transpose(1, 2)
        return velocity

    def _columns(self, places: int, stride: int, length: int, device: torch.device) -> Columns:
        """Times of a level's places in token periods, as one column, and which of them hold frames."""
        begins = torch.arange(places, device=device) * stride
        times = (begins + stride / 2) / self.frames_per_token
        rotation = Rotation.at(times[None, None, :, None], self.head_dim)  # (1, 1, places, 1, head_dim / 2)
        mask = torch.zeros(places, device=device).masked_fill(begins >= length, -math.inf)
        return Columns(rotation, mask[None, None, None])


class Level(nn.Module):
    """Residual blocks of one width, each followed by attention if ``head_dim`` is given."""

    def __init__(
        self, channels: int, items: int, head_dim: int | None, feed_forward_factor: float, semantic_dim: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(channels, semantic_dim) for _ in range(items))
        self.attention = nn.ModuleList()
        if head_dim is not None:
            self.tokens_in = nn.Linear(semantic_dim, channels)
            heads, inner = channels // head_dim, round(feed_forward_factor * channels)
            self.attention.extend(RoformerLayer(channels, heads, inner) for _ in range(items))

    def remember(self, embedding: Tensor, rotation: Rotation) -> list[Memory]:
        """Keys and values of the tokens' embedding ``(B, N, semantic_dim)`` for every attention of the level."""
        if not len(self.attention):
            return []
        tokens = self.tokens_in(embedding)
        attentions = (module for module in self.modules() if isinstance(module, CrossAttention))
        return [attention.remember(tokens, rotation) for attention in attentions]

    def forward(
        self, x: Tensor, modulation: Tensor, columns: Columns, guidance: Guidance | None, memories: Iterator[Memory]
    ) -> Tensor:
        """``(B, channels, places)`` -> the same shape; takes its own from ``memories``."""
        for number, block in enumerate(self.blocks):
            x = block(x, modulation)
            if len(self.attention):
                sequence = x.transpose(1, 2)[None]  # (1, B, places, channels): one column
                attended = self.attention[number](sequence, columns, next(memories), guidance)
                x = attended[0].transpose(1, 2)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions over three places, modulated between them: ``(B, channels, places)`` -> the same shape."""

    def __init__(self, channels: int, modulation_dim: int) -> None:
        super().__init__()
        self.norm_in, self.norm_between = FrameNorm(channels), FrameNorm(channels)
        self.first, self.second = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        self.film = nn.Conv1d(modulation_dim, 2 * channels, 1)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = self.film(modulation).chunk(2, dim=1)
        inner = self.norm_between(self.first(F.silu(self.norm_in(x))))
        inner = torch.addcmul(shift, inner, 1 + scale)
        output: Tensor = x + self.second(F.silu(inner))
        return output


class FrameNorm(nn.Module):
    """RMSNorm of every place over its channels: ``(B, channels, places)`` -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return normed


def _check_heads(channels: tuple[int, ...], attention: tuple[bool, ...], head_dim: int) -> None:
    if head_dim < 2 or head_dim % 2:
        raise MelodyError(f"head_dim is {head_dim}: expected an even number, 2 or more")
    for width, attends in zip(channels, attention, strict=True):
        if attends and width % head_dim:
            raise MelodyError(f"channels holds {width}, of a level that attends: expected multiples of {head_dim}")
