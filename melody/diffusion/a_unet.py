"""The paper's own UNet-1D, by the library that it names: ``a-unet`` (appendix E, footnote 11), for Table 5.

Blocks are put together as in Moûsai (Schneider et al. 2023, arXiv 2301.11757, section 3): in every level a residual
block, modulation and, at the coarser ones, attention to the sequence and to the tokens, with skips that are modulated,
too. How the paper sized it and gave it angles and tokens is not said; ours:

- The angle belongs to a frame, and the library modulates a whole row: cosine and sine of every frame's angle are two
  further channels of the input, and the row is modulated by the mean of the angles' and of the tokens' embedding.
- The library's attention knows no place: frames have sines and cosines of their time as further channels, and tokens
  have those of theirs, in the same unit.
- Unconditional rows see one learned vector in the place of every token, as the library's own plug-in for guidance does.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melody.bounds import Bands, Blocks, Entries, Factor, Heads, PerSecond, Width
from melody.diffusion.inputs import AngleEmbedding, check_inputs, check_levels
from melody.diffusion.token_memory import TokenMemory, waves
from melody.errors import MelodyError
from melody.extras import need
from melody.protocols import Denoiser
from melody.registry import denoisers


@denoisers.register("a-unet")
class AUNet(TokenMemory, Denoiser):
    """a-unet's one-dimensional U-Net that predicts the velocity of noisy latents.

    Defaults are for the paper's data and about the size of its study, 300M parameters.

    Args:
        latent_dim: width D of a latent frame.
        frame_rate: latent frames a second.
        codebook_size: how many semantic tokens there are.
        token_rate: semantic tokens a second.
        channels: width of every level, from the finest to the coarsest.
        factors: by how much every level is coarser than the one before it; the first, than the latents.
        items: residual blocks of every level on the way down, and as many on the way up.
        attention: which levels attend, to themselves and to the tokens, after every residual block.
        heads: of every attention.
        head_dim: width of a head.
        semantic_dim: width of the embedding of tokens and angles.
        angle_embedding_dim: width of the two vectors between which the angle interpolates.
        position_channels: channels of the input that tell a frame's time.
        norm_groups: groups of channels that are normalised together, over all frames.
    Raises:
        MelodyError: a-unet is not installed, or sizes that do not fit together.
    """

    needs: ClassVar[tuple[str, ...]] = ("a_unet",)

    def __init__(
        self,
        latent_dim: Width = 16,
        frame_rate: PerSecond = 250.0,
        codebook_size: Entries = 1024,
        token_rate: PerSecond = 25.0,
        channels: Blocks[Width] = (256, 512, 512, 1024, 1024),
        factors: Blocks[Factor] = (1, 2, 2, 2, 2),
        items: Blocks[Factor] = (2, 2, 4, 5, 5),
        attention: Blocks[bool] = (False, False, True, True, True),
        heads: Heads = 8,
        head_dim: Width = 64,
        semantic_dim: Width = 768,
        angle_embedding_dim: Width = 256,
        position_channels: Width = 16,
        norm_groups: Bands = 8,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_levels(channels, factors=factors, items=items, attention=attention)
        if wrong := [width for width in channels if width % norm_groups]:
            raise MelodyError(f"channels holds {wrong[0]}: expected multiples of norm_groups = {norm_groups}")
        super().__init__(codebook_size, semantic_dim, position_channels)
        self.latent_dim = latent_dim
        self.frames_per_token = frame_rate / token_rate
        self.multiple = math.prod(factors)
        self.angle_embedding = AngleEmbedding(angle_embedding_dim, semantic_dim)
        self.network = _network(
            latent_dim + 2 + position_channels,
            channels[0],
            list(zip(channels, factors, items, attention, strict=True)),
            attention_heads=heads,
            attention_features=head_dim,
            embedding_features=semantic_dim,
            modulation_features=semantic_dim,
            resnet_groups=norm_groups,
        )
        self.latents_out = nn.Conv1d(channels[0], latent_dim, 1)
        # As the dual-path network: starts near the velocity 0, yet passes gradients from step one.
        nn.init.normal_(self.latents_out.weight, std=0.02)
        nn.init.zeros_(self.latents_out.bias)  # type: ignore[arg-type]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The library's layers call one another out of closures, which a plain copy would share with the original.
        with torch.random.fork_rng(), self.unseen.device:
            copied = type(self)(**self._arguments)
        copied.load_state_dict(self.state_dict())
        return copied.to(self.unseen.dtype).train(self.training)

    def forward(self, latents: Tensor, angle: Tensor, condition: Tensor, unconditional: Tensor | None = None) -> Tensor:
        """Latents ``(B, L, D)``, angle ``(B, L)``, condition of ``prepare`` -> velocity ``(B, L, D)``, for any L > 0.

        Frames are padded with zeros to a multiple of all factors.

        Raises:
            MelodyError: shapes that do not fit together.
        """
        check_inputs(latents, angle, len(condition), unconditional, latent_dim=self.latent_dim)
        tokens = self.seen(condition, unconditional)
        row = self.angle_embedding(angle).mean(dim=1) + tokens.mean(dim=1)  # (B, semantic_dim)
        length = latents.shape[1]
        times = (torch.arange(length, device=latents.device) + 0.5) / self.frames_per_token
        places = waves(times, self.position_channels).to(latents.dtype).expand(len(latents), -1, -1)
        channels = torch.cat([latents, angle.cos()[..., None], angle.sin()[..., None], places], dim=-1)
        padded = F.pad(channels.transpose(1, 2), (0, -length % self.multiple))  # (B, channels, L')
        hidden = self.network(padded, features=row, embedding=tokens)[:, :, :length]  # (B, channels, L)
        velocity: Tensor = self.latents_out(hidden).transpose(1, 2)
        return velocity


def _network(in_channels: int, out_channels: int, levels: list[tuple[int, int, int, bool]], **sizes: int) -> nn.Module:
    """a-unet's network of levels, each (channels, factor, items, whether it attends)."""
    a_unet = need("a_unet.apex", "denoiser 'a-unet'")
    attending = [a_unet.AttentionItem, a_unet.CrossAttentionItem]
    blocks = [
        a_unet.XBlock(
            channels=width,
            factor=factor,
            items=[a_unet.ResnetItem, a_unet.ModulationItem, *(attending if attends else [])] * items,
            skip_t=a_unet.SkipModulate,
        )
        for width, factor, items, attends in levels
    ]
    network: nn.Module = a_unet.XUNet(dim=1, in_channels=in_channels, out_channels=out_channels, blocks=blocks, **sizes)
    return network
