"""Our names for the tensors of transformers' networks that hear and read, beside those of its releases from 5.0."""

from __future__ import annotations

from melody.tensor_names import Names

AST = Names(
    "transformers' ASTModel",
    {
        "class_token": "embeddings.cls_token",
        "distillation_token": "embeddings.distillation_token",
        "positions": "embeddings.position_embeddings",
        "patches": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
        # Each as from 5.9 on, and as before.
        "blocks.#.attention_norm": ("layers.#.layernorm_before", "encoder.layer.#.layernorm_before"),
        "blocks.#.attention.query": ("layers.#.attention.q_proj", "encoder.layer.#.attention.attention.query"),
        "blocks.#.attention.key": ("layers.#.attention.k_proj", "encoder.layer.#.attention.attention.key"),
        "blocks.#.attention.value": ("layers.#.attention.v_proj", "encoder.layer.#.attention.attention.value"),
        "blocks.#.attention.out": ("layers.#.attention.o_proj", "encoder.layer.#.attention.output.dense"),
        "blocks.#.feed_forward_norm": ("layers.#.layernorm_after", "encoder.layer.#.layernorm_after"),
        "blocks.#.feed_forward.up": ("layers.#.mlp.fc1", "encoder.layer.#.intermediate.dense"),
        "blocks.#.feed_forward.down": ("layers.#.mlp.fc2", "encoder.layer.#.output.dense"),
    },
)

BERT = Names(
    "transformers' BertModel",
    {
        "words": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings",
        "segments": "embeddings.token_type_embeddings",
        "embedding_norm": "embeddings.LayerNorm",
        "blocks.#.attention.query": "encoder.layer.#.attention.self.query",
        "blocks.#.attention.key": "encoder.layer.#.attention.self.key",
        "blocks.#.attention.value": "encoder.layer.#.attention.self.value",
        "blocks.#.attention.out": "encoder.layer.#.attention.output.dense",
        "blocks.#.attention_norm": "encoder.layer.#.attention.output.LayerNorm",
        "blocks.#.feed_forward.up": "encoder.layer.#.intermediate.dense",
        "blocks.#.feed_forward.down": "encoder.layer.#.output.dense",
        "blocks.#.feed_forward_norm": "encoder.layer.#.output.LayerNorm",
    },
)

CONFORMER = Names(
    "transformers' Wav2Vec2ConformerModel",
    {
        "mask_vector": "masked_spec_embed",
        "front.#.conv": "feature_extractor.conv_layers.#.conv",
        "front.#.norm": "feature_extractor.conv_layers.#.layer_norm",
        "front_norm": "feature_projection.layer_norm",
        "front_out": "feature_projection.projection",
        "rotary.frequencies": "encoder.embed_positions.inv_freq",
        "norm": "encoder.layer_norm",
        "blocks.#.feed_forward_1_norm": "encoder.layers.#.ffn1_layer_norm",
        "blocks.#.feed_forward_1.up": "encoder.layers.#.ffn1.intermediate_dense",
        "blocks.#.feed_forward_1.down": "encoder.layers.#.ffn1.output_dense",
        "blocks.#.attention_norm": "encoder.layers.#.self_attn_layer_norm",
        "blocks.#.attention.query": "encoder.layers.#.self_attn.linear_q",
        "blocks.#.attention.key": "encoder.layers.#.self_attn.linear_k",
        "blocks.#.attention.value": "encoder.layers.#.self_attn.linear_v",
        "blocks.#.attention.out": "encoder.layers.#.self_attn.linear_out",
        "blocks.#.convolution_norm": "encoder.layers.#.conv_module.layer_norm",
        "blocks.#.convolution.gate": "encoder.layers.#.conv_module.pointwise_conv1",
        "blocks.#.convolution.depthwise": "encoder.layers.#.conv_module.depthwise_conv",
        "blocks.#.convolution.norm": "encoder.layers.#.conv_module.batch_norm",
        "blocks.#.convolution.out": "encoder.layers.#.conv_module.pointwise_conv2",
        "blocks.#.feed_forward_2_norm": "encoder.layers.#.ffn2_layer_norm",
        "blocks.#.feed_forward_2.up": "encoder.layers.#.ffn2.intermediate_dense",
        "blocks.#.feed_forward_2.down": "encoder.layers.#.ffn2.output_dense",
        "blocks.#.norm": "encoder.layers.#.final_layer_norm",
    },
)

QUANTIZER = Names(
    "transformers' Wav2Vec2ConformerGumbelVectorQuantizer", {"entries": "codevectors", "scores": "weight_proj"}
)
