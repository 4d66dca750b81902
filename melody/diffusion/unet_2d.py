"""A two-dimensional U-Net over the latents as an image, to compare with the dual-path network (Table 5 of the paper).

The network is diffusers' ``UNet2DConditionModel`` (as in latent diffusion, Rombach et al. 2022, arXiv 2112.10752) on an
image of L frames by D latents. The paper's UNet-2D relied on riffusion-model-v1 (appendix E, footnote 12), which is
Stable Diffusion's: this class, with widths 320, 640, 1,280 and 1,280, on four channels of an autoencoder of
spectrograms taken as images, beside CLIP's embedding of a text. How the paper took it to 300M parameters and to its own
latents it does not say. What differs here, all of it ours, beside the widths:

- The angle belongs to a frame, and the network knows one time step for all: cosine and sine of every frame's angle are
  two further channels of the image, constant over the latents, and the time step is always 0. A mean angle in its place
  is misleading: near π/4 in training, where chunks differ, and anywhere in sampling, where they mostly agree.
- Latents have no order, and attention knows no place: each place along D has a learned vector, and each frame sines and
  cosines of its time, as further channels; the tokens' embedding has those of the tokens' times, in the same unit.
- Unconditional rows see one learned vector in the place of every token (Ho and Salimans 2022, arXiv 2207.12598): the
  levels differ in width from the tokens, so no hidden sequence fits into their place.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.bounds import Blocks, Entries, Factor, Heads, PerSecond, Width
from melody.diffusion.inputs import check_inputs, check_levels
from melody.diffusion.token_memory import TokenMemory, waves
from melody.diffusion.unet_2d_names import UNET
from melody.errors import MelodyError
from melody.extras import need
from melody.protocols import Denoiser
from melody.registry import denoisers


@denoisers.register("unet-2d")
class UNet2d(TokenMemory, Denoiser):
    """diffusers' two-dimensional U-Net that predicts the velocity of noisy latents.

    Defaults are for the paper's data and about the size of its study, 300M parameters.

    Args:
        latent_dim: width D of a latent frame.
        frame_rate: latent frames a second.
        codebook_size: how many semantic tokens there are.
        token_rate: semantic tokens a second.
        channels: width of every level, from the finest to the coarsest; each halves frames and latents.
        layers: residual blocks of every level on the way down; on the way up there is one more.
        attention: which levels attend, to themselves and to the tokens; the middle, at the coarsest, always does.
        heads: of every attention.
        semantic_dim: width of the tokens' embedding.
        position_channels: channels of the image for a place's frame, and as many for its latent.
        norm_groups: groups of channels that are normalised together.
    Raises:
        MelodyError: diffusers is not installed, or sizes that do not fit together.
    """

    needs: ClassVar[tuple[str, ...]] = ("diffusers",)
    library_names: ClassVar = {"network": UNET}

    def __init__(
        self,
        latent_dim: Width = 16,
        frame_rate: PerSecond = 250.0,
        codebook_size: Entries = 1024,
        token_rate: PerSecond = 25.0,
        channels: Blocks[Width] = (192, 320, 512, 832),
        layers: Factor = 2,
        attention: Blocks[bool] = (False, False, True, True),
        heads: Heads = 8,
        semantic_dim: Width = 768,
        position_channels: Width = 16,
        norm_groups: Width = 32,
    ) -> None:
        check_levels(channels, attention=attention)
        _check_widths(channels, attention, heads, norm_groups)
        super().__init__(codebook_size, semantic_dim, position_channels)
        self.latent_dim = latent_dim
        self.frames_per_token = frame_rate / token_rate
        self.multiple = 2 ** (len(channels) - 1)
        self.latent_positions = nn.Parameter(torch.randn(latent_dim, position_channels))
        self.network = _unet(3 + 2 * position_channels, channels, layers, attention, heads, semantic_dim, norm_groups)
        # As the dual-path network: starts near the velocity 0, yet passes gradients from step one.
        nn.init.normal_(self.network.conv_out.weight, std=0.02 / 3)
        nn.init.zeros_(self.network.conv_out.bias)

    def forward(self, latents: Tensor, angle: Tensor, condition: Tensor, unconditional: Tensor | None = None) -> Tensor:
        """Latents ``(B, L, D)``, angle ``(B, L)``, condition of ``prepare`` -> velocity ``(B, L, D)``, for any L > 0.

        The image is padded with zeros to a multiple of what the levels halve it to.

        Raises:
            MelodyError: shapes that do not fit together.
        """
        check_inputs(latents, angle, len(condition), unconditional, latent_dim=self.latent_dim)
        condition = self.seen(condition, unconditional)
        length, width = latents.shape[1:]
        behind = (0, -width % self.multiple, 0, -length % self.multiple)
        image = F.pad(self._image(latents, angle), behind)  # (B, channels, L', D')
        velocity: Tensor = self.network(image, 0, condition, return_dict=False)[0]  # (B, 1, L', D')
        return velocity[:, 0, :length, :width]

    def _image(self, latents: Tensor, angle: Tensor) -> Tensor:
        """Latents, cosine and sine of the angle, places in time and along D: ``(B, channels, L, D)``."""
        batch, length, width = latents.shape
        frames = torch.arange(length, device=latents.device) + 0.5
        in_time = waves(frames / self.frames_per_token, self.position_channels).T[None, :, :, None]  # (1, c, L, 1)
        along = self.latent_positions.T[None, :, None]  # (1, c, 1, D)
        angles = torch.stack([angle.cos(), angle.sin()], dim=1)[..., None]  # (B, 2, L, 1)
        channels = (angles, in_time, along)
        planes = [plane.expand(batch, -1, length, width).to(latents.dtype) for plane in channels]
        return torch.cat([latents[:, None], *planes], dim=1)


def _unet(
    in_channels: int,
    channels: tuple[int, ...],
    layers: int,
    attention: tuple[bool, ...],
    heads: int,
    semantic_dim: int,
    norm_groups: int,
) -> Any:
    return need("diffusers", "denoiser 'unet-2d'").UNet2DConditionModel(
        in_channels=in_channels,
        out_channels=1,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)),
        attention_head_dim=heads,  # diffusers' name for their number
        cross_attention_dim=semantic_dim,
        norm_num_groups=norm_groups,
    )


def _check_widths(channels: tuple[int, ...], attention: tuple[bool, ...], heads: int, norm_groups: int) -> None:
    for width, attends in zip(channels, (*attention[:-1], True), strict=True):
        if width % norm_groups:
            raise MelodyError(f"channels holds {width}: expected multiples of norm_groups = {norm_groups}")
        if attends and width % heads:
            raise MelodyError(f"channels holds {width}, of a level that attends: expected multiples of heads = {heads}")
