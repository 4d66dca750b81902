"""The dual-path denoiser of MeLoDy (Figure 2 of the paper).

Latents are cut into half-overlapping segments. Every block then works along two short paths: the coarse path attends
across segments, on columns merged to few, and to the semantic tokens; the fine path runs a recurrence within each
segment and is modulated by the angle. Sequences are O(sqrt(L)) long.

What the paper leaves open is ours, and marked so where it stands.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from melody.bounds import Entries, Heads, Layers, PerSecond, Samples, Stack, Width
from melody.diffusion.attention import Columns, CrossAttention, Guidance, Memory, RoformerLayer
from melody.diffusion.inputs import AngleEmbedding, Condition, check_inputs, check_tokens, mlp
from melody.diffusion.norm import RMSNorm
from melody.diffusion.segments import Segmentation, merge_segments, repeat_segments
from melody.diffusion.sru import SRU
from melody.errors import MelodyError
from melody.nn.rotary import Rotation
from melody.protocols import Denoiser
from melody.registry import denoisers


class Places(NamedTuple):
    """What every block needs to know about the segments, whatever they hold."""

    padding: Tensor
    """``(K, S)``, boolean."""
    columns: Columns
    guidance: Guidance | None


@denoisers.register("dual-path")
class DualPathDenoiser(nn.Module, Denoiser):
    """Dual-path diffusion network that predicts the velocity of noisy latents (Figure 2).

    Defaults are the paper's where it prints them: hidden size 768, 8 blocks, segments of 64, latents of 16 at 250 Hz,
    1,024 semantic tokens at 25 Hz, angle vectors of 256, two layers of SRU; the others are ours, such that
    there are the 296.6M parameters of the paper to within 1 %: 295.4M.

    Args:
        latent_dim: width D of a latent frame.
        hidden_size: width of everything inside.
        num_blocks: dual-path blocks.
        segment_size: K, frames in a segment.
        frame_rate: latent frames a second.
        codebook_size: how many semantic tokens there are.
        token_rate: semantic tokens a second.
        angle_embedding_dim: width of the two vectors between which the angle interpolates.
        merge_widths: columns that each block's coarse path merges segments to, widest at both ends (the numbers: ours).
        num_heads: heads of every attention (ours).
        coarse_layers: Roformer layers in every coarse path (ours).
        feed_forward_size: inner width of SwiGLU (ours).
        recurrent_size: width of the SRU in each of its two directions (ours).
    Raises:
        MelodyError: sizes that do not fit together.
    """

    def __init__(
        self,
        latent_dim: Width = 16,
        hidden_size: Width = 768,
        num_blocks: Layers = 8,
        segment_size: Samples = 64,
        frame_rate: PerSecond = 250.0,
        codebook_size: Entries = 1024,
        token_rate: PerSecond = 25.0,
        angle_embedding_dim: Width = 256,
        merge_widths: Stack[Width] = (64, 32, 16, 8, 8, 16, 32, 64),
        num_heads: Heads = 12,
        coarse_layers: Layers = 2,
        feed_forward_size: Width = 2816,
        recurrent_size: Width = 768,
    ) -> None:
        super().__init__()
        _check_sizes(hidden_size, num_blocks, segment_size, merge_widths, num_heads)
        self.latent_dim = latent_dim
        self.segment_size = segment_size
        self.codebook_size = codebook_size
        self.merge_widths = merge_widths
        self.coarse_layers = coarse_layers
        self.head_dim = hidden_size // num_heads
        self.frames_per_token = frame_rate / token_rate
        self.latents_in = nn.Linear(latent_dim, hidden_size)
        self.angle_embedding = AngleEmbedding(angle_embedding_dim, hidden_size)
        self.semantic_embedding = nn.Embedding(codebook_size, hidden_size)
        self.semantic_mlp = mlp(hidden_size, hidden_size)
        self.norm_in = RMSNorm(hidden_size)
        self.blocks = nn.ModuleList(
            DualPathBlock(hidden_size, width, num_heads, coarse_layers, feed_forward_size, recurrent_size)
            for width in merge_widths
        )
        self.norm_out = RMSNorm(hidden_size)
        self.latents_out = nn.Linear(hidden_size, latent_dim)
        # Ours: starts near the velocity 0, whose error is the target's variance, yet passes gradients from step one.
        nn.init.normal_(self.latents_out.weight, std=0.02)
        nn.init.zeros_(self.latents_out.bias)

    def prepare(self, semantic_tokens: Tensor) -> Condition:
        """E_ST of tokens ``(B, N)``: its mean, and the keys and values of every cross-attention.

        Raises:
            MelodyError: not a batch of token sequences, or a token outside the codebook.
        """
        check_tokens(semantic_tokens, self.codebook_size)
        embedding = self.semantic_mlp(self.semantic_embedding(semantic_tokens))  # (B, N, d)
        # Ours: tokens and columns are placed on one time axis, in token periods, so that "the tokens of now" are always
        # at the same distance and alignment can be learnt.
        times = torch.arange(semantic_tokens.shape[1], device=embedding.device) + 0.5
        rotation = Rotation.at(times[:, None], self.head_dim)
        attentions = (module for module in self.modules() if isinstance(module, CrossAttention))
        return Condition(embedding.mean(dim=1), tuple(each.remember(embedding, rotation) for each in attentions))

    def repeat(self, condition: Condition, times: int) -> Condition:
        """The condition for ``times`` copies of the rows, in the order of ``torch.cat([x] * times)``."""
        return condition.repeated(times)

    def forward(
        self, latents: Tensor, angle: Tensor, condition: Condition, unconditional: Tensor | None = None
    ) -> Tensor:
        """Latents ``(B, L, D)``, angle ``(B, L)``, condition of ``prepare`` -> velocity ``(B, L, D)``, for any L > 0.

        Raises:
            MelodyError: shapes that do not fit together.
        """
        check_inputs(latents, angle, condition.rows, unconditional, latent_dim=self.latent_dim)
        segmentation = Segmentation.of(latents.shape[1], self.segment_size)
        angle_embedding = self.angle_embedding(angle)  # (B, L, d)
        x = self.norm_in(self.latents_in(latents) + angle_embedding)  # (B, L, d)
        x = segmentation.split(x)  # (K, B, S, d)

        seen = condition.mean_seen(unconditional)
        modulation = segmentation.chunk(angle_embedding + seen[:, None])  # (K/2, B, S + 1, d): each frame once
        guidance = None if unconditional is None else Guidance.of(unconditional)
        padding = segmentation.padding(x.device)
        memories = iter(condition.memories)
        for block, width in zip(self.blocks, self.merge_widths, strict=True):
            columns = self._columns(segmentation, padding, width)
            own = [next(memories) for _ in range(self.coarse_layers)]
            x = block(x, modulation, Places(padding, columns, guidance), own)

        x = segmentation.overlap_add(x)  # (B, L, d)
        velocity: Tensor = self.latents_out(self.norm_out(x))  # (B, L, D)
        return velocity

    def _columns(self, segmentation: Segmentation, padding: Tensor, width: int) -> Columns:
        """Times of the merged columns in token periods, and which of them hold frames."""
        group = (width, self.segment_size // width, -1)
        frames = segmentation.frame_positions(padding.device).view(group).float().mean(dim=1)  # (width, S)
        rotation = Rotation.at((frames + 0.5)[:, None, :, None] / self.frames_per_token, self.head_dim)
        empty = padding.view(group).all(dim=1)  # (width, S)
        empty &= ~empty.all(dim=1, keepdim=True)  # a column without any frame is not read, but must not make NaN
        mask = torch.zeros(empty.shape, device=padding.device).masked_fill(empty, -math.inf)
        return Columns(rotation, mask[:, None, None])


class DualPathBlock(nn.Module):
    """One block: ``(K, B, S, d)`` -> the same shape, zeros in the padding before and after."""

    def __init__(
        self,
        hidden_size: int,
        merge_width: int,
        num_heads: int,
        coarse_layers: int,
        feed_forward_size: int,
        recurrent_size: int,
    ) -> None:
        super().__init__()
        self.merge_width = merge_width
        self.coarse_layers = nn.ModuleList(
            RoformerLayer(hidden_size, num_heads, feed_forward_size) for _ in range(coarse_layers)
        )
        self.coarse_norm = RMSNorm(hidden_size)
        self.recurrence = SRU(hidden_size, recurrent_size, num_layers=2)
        self.recurrence_out = nn.Linear(2 * recurrent_size, hidden_size, bias=False)
        self.film = nn.Linear(hidden_size, 2 * hidden_size)
        self.fine_norm = RMSNorm(hidden_size)

    def forward(self, x: Tensor, modulation: Tensor, places: Places, memories: list[Memory]) -> Tensor:
        padding = places.padding[:, None, :, None]  # (K, 1, S, 1)
        coarse = merge_segments(x, self.merge_width, places.padding)  # (width, B, S, d)
        for layer, memory in zip(self.coarse_layers, memories, strict=True):
            coarse = layer(coarse, places.columns, memory, places.guidance)
        x = self.coarse_norm(x + repeat_segments(coarse, len(x)))  # H_f (K, B, S, d)

        fine = self.recurrence_out(self.recurrence(x, padding))  # (K, B, S, d)
        scale, shift = self.film(modulation).chunk(2, dim=-1)  # (K/2, B, S + 1, d)
        fine = torch.cat(
            [  # a segment is two chunks: its own and the next
                torch.addcmul(shift[:, :, :-1], 1 + scale[:, :, :-1], fine[: len(scale)]),
                torch.addcmul(shift[:, :, 1:], 1 + scale[:, :, 1:], fine[len(scale) :]),
            ]
        )
        output: Tensor = self.fine_norm(x + fine, keep=~padding)  # H' (K, B, S, d)
        return output


def _check_sizes(
    hidden_size: int, num_blocks: int, segment_size: int, merge_widths: tuple[int, ...], num_heads: int
) -> None:
    if hidden_size % (2 * num_heads):
        raise MelodyError(f"hidden_size is {hidden_size}: expected a multiple of 2 * num_heads = {2 * num_heads}")
    if segment_size < 2 or segment_size % 2:
        raise MelodyError(f"segment_size is {segment_size}: expected an even number of frames, 2 or more")
    if len(merge_widths) != num_blocks:
        raise MelodyError(
            f"merge_widths has {len(merge_widths)} widths: expected one for each of the {num_blocks} blocks"
        )
    for width in merge_widths:
        if width < 1 or segment_size % width:
            raise MelodyError(f"merge_widths holds {width}: expected divisors of segment_size = {segment_size}")
