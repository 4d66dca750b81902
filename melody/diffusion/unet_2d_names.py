"""Our names for the tensors of diffusers' ``UNet2DConditionModel``, beside its own."""

from __future__ import annotations

from melody.tensor_names import Names

_PLACES = {"down.#": "down_blocks.#", "middle": "mid_block", "up.#": "up_blocks.#"}
_IN_A_PLACE = {
    "residual.#.norm_1": "resnets.#.norm1",
    "residual.#.conv_1": "resnets.#.conv1",
    "residual.#.time": "resnets.#.time_emb_proj",
    "residual.#.norm_2": "resnets.#.norm2",
    "residual.#.conv_2": "resnets.#.conv2",
    "residual.#.skip": "resnets.#.conv_shortcut",
    "attention.#.norm": "attentions.#.norm",
    "attention.#.in": "attentions.#.proj_in",
    "attention.#.out": "attentions.#.proj_out",
    "attention.#.self_norm": "attentions.#.transformer_blocks.0.norm1",
    "attention.#.self.query": "attentions.#.transformer_blocks.0.attn1.to_q",
    "attention.#.self.key": "attentions.#.transformer_blocks.0.attn1.to_k",
    "attention.#.self.value": "attentions.#.transformer_blocks.0.attn1.to_v",
    "attention.#.self.out": "attentions.#.transformer_blocks.0.attn1.to_out.0",
    "attention.#.cross_norm": "attentions.#.transformer_blocks.0.norm2",
    "attention.#.cross.query": "attentions.#.transformer_blocks.0.attn2.to_q",
    "attention.#.cross.key": "attentions.#.transformer_blocks.0.attn2.to_k",
    "attention.#.cross.value": "attentions.#.transformer_blocks.0.attn2.to_v",
    "attention.#.cross.out": "attentions.#.transformer_blocks.0.attn2.to_out.0",
    "attention.#.feed_forward_norm": "attentions.#.transformer_blocks.0.norm3",
    "attention.#.feed_forward.gate_up": "attentions.#.transformer_blocks.0.ff.net.0.proj",
    "attention.#.feed_forward.down": "attentions.#.transformer_blocks.0.ff.net.2",
    "narrower": "downsamplers.0.conv",
    "wider": "upsamplers.0.conv",
}

UNET = Names(
    "diffusers' UNet2DConditionModel",
    {
        "conv_in": "conv_in",
        "time.up": "time_embedding.linear_1",
        "time.out": "time_embedding.linear_2",
        "norm_out": "conv_norm_out",
        "conv_out": "conv_out",
        **{
            f"{ours}.{inner}": f"{theirs}.{within}"
            for ours, theirs in _PLACES.items()
            for inner, within in _IN_A_PLACE.items()
        },
    },
)
