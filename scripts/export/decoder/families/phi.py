"""Phi-1 and Phi-2: attention and feed-forward side by side behind one norm, part of a head rotated, biases everywhere."""

from __future__ import annotations

from ..anatomy import Anatomy, Attention, Block, FeedForward, Linear, Norm
from ..rotary import tables


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.model
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=body.layers[0].self_attn.head_dim,
        vocabulary=config.vocab_size,
        context=context,
        embedding=body.embed_tokens.weight,
        blocks=[_block(layer, config) for layer in body.layers],
        norm=Norm.layer(body.final_layernorm),
        head=Linear.of(model.lm_head),
        tied=config.tie_word_embeddings,
        rotary=tables(body.rotary_emb, context),
    )


def _block(layer, config) -> Block:
    attention, feed_forward = layer.self_attn, layer.mlp
    return Block(
        attention_norm=Norm.layer(layer.input_layernorm),
        attention=Attention(
            qkv=Linear.of(attention.q_proj, attention.k_proj, attention.v_proj),
            projection=Linear.of(attention.dense),
            scale=attention.scaling,
            query_norm=Norm.layer(attention.q_layernorm) if attention.qk_layernorm else None,
            key_norm=Norm.layer(attention.k_layernorm) if attention.qk_layernorm else None,
        ),
        feed_forward_norm=None,
        feed_forward=FeedForward(
            up=Linear.of(feed_forward.fc1),
            down=Linear.of(feed_forward.fc2),
            activation=config.hidden_act,
            gated=False,
        ),
        parallel=True,
    )
