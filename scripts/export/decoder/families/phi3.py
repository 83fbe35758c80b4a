"""Phi-3, Phi-3.5 and Phi-4: Llama's block with its linear layers fused already, and part of a head rotated where it says so."""

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
        norm=_norm(body.norm),
        head=Linear.of(model.lm_head),
        tied=config.tie_word_embeddings,
        rotary=tables(body.rotary_emb, context),
    )


def _block(layer, config) -> Block:
    attention, feed_forward = layer.self_attn, layer.mlp
    return Block(
        attention_norm=_norm(layer.input_layernorm),
        attention=Attention(
            qkv=Linear.of(attention.qkv_proj),
            projection=Linear.of(attention.o_proj),
            scale=attention.scaling,
            window=config.sliding_window,
        ),
        feed_forward_norm=_norm(layer.post_attention_layernorm),
        feed_forward=FeedForward(
            up=Linear.of(feed_forward.gate_up_proj),
            down=Linear.of(feed_forward.down_proj),
            activation=config.hidden_act,
            gated=True,
        ),
    )


def _norm(module) -> Norm:
    return Norm(module.weight, module.variance_epsilon)
