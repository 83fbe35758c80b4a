"""Gemma and Gemma 2: a scaled embedding and norms that multiply by 1 + weight; Gemma 2 adds norms behind each part, soft caps and
a window in every other layer."""

from __future__ import annotations

from ..anatomy import Anatomy, Attention, Block, FeedForward, Linear, Norm, Unsupported
from ..rotary import tables


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.model
    if getattr(config, "use_bidirectional_attention", False):
        raise Unsupported("use_bidirectional_attention is not supported: a decoder's tokens see only those before them")
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        vocabulary=config.vocab_size,
        context=context,
        embedding=body.embed_tokens.weight,
        embedding_scale=config.hidden_size**0.5,
        blocks=[_block(layer, config) for layer in body.layers],
        norm=_norm(body.norm),
        head=Linear.of(model.lm_head),
        tied=config.tie_word_embeddings,
        rotary=tables(body.rotary_emb, context),
        logit_softcap=getattr(config, "final_logit_softcapping", None),
    )


def _block(layer, config) -> Block:
    attention, feed_forward = layer.self_attn, layer.mlp
    two = config.model_type == "gemma2"
    return Block(
        attention_norm=_norm(layer.input_layernorm),
        attention=Attention(
            qkv=Linear.of(attention.q_proj, attention.k_proj, attention.v_proj),
            projection=Linear.of(attention.o_proj),
            scale=attention.scaling,
            window=attention.sliding_window if two else None,
            softcap=(attention.attn_logit_softcapping or 0.0) if two else 0.0,
        ),
        attention_post_norm=_norm(layer.post_attention_layernorm) if two else None,
        feed_forward_norm=_norm(layer.pre_feedforward_layernorm if two else layer.post_attention_layernorm),
        feed_forward=FeedForward(
            up=Linear.of(feed_forward.gate_proj, feed_forward.up_proj),
            down=Linear.of(feed_forward.down_proj),
            activation=config.hidden_activation if two else config.hidden_act,
            gated=True,
        ),
        feed_forward_post_norm=_norm(layer.post_feedforward_layernorm) if two else None,
    )


def _norm(module) -> Norm:
    return Norm(1 + module.weight, module.eps)
