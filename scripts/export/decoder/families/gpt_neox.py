"""GPT-NeoX and Pythia: two norms on one hidden state, part of a head rotated, and a fused matrix that goes head by head."""

from __future__ import annotations

import torch

from ..anatomy import Anatomy, Attention, Block, FeedForward, Linear, Norm
from ..rotary import tables


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.gpt_neox
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=context,
        embedding=body.embed_in.weight,
        blocks=[_block(layer, config) for layer in body.layers],
        norm=Norm.layer(body.final_layer_norm),
        head=Linear.of(model.get_output_embeddings()),
        tied=config.tie_word_embeddings,
        rotary=tables(body.rotary_emb, context),
    )


def _block(layer, config) -> Block:
    attention, feed_forward = layer.attention, layer.mlp
    return Block(
        attention_norm=Norm.layer(layer.input_layernorm),
        attention=Attention(
            qkv=_by_part(attention.query_key_value, config.num_attention_heads),
            projection=Linear.of(attention.dense),
            scale=attention.scaling,
        ),
        feed_forward_norm=Norm.layer(layer.post_attention_layernorm),
        feed_forward=FeedForward(
            up=Linear.of(feed_forward.dense_h_to_4h),
            down=Linear.of(feed_forward.dense_4h_to_h),
            activation=config.hidden_act,
            gated=False,
        ),
        parallel=config.use_parallel_residual,
    )


def _by_part(module: torch.nn.Linear, heads: int) -> Linear:
    """Rows in the order query, key, value of each head become all queries, all keys, all values."""

    def reorder(rows: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    return Linear((reorder(module.weight),), None if module.bias is None else reorder(module.bias))
