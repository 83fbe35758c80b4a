"""Llama and those that took its block over: Mistral (a window), Qwen2 (biases), Qwen3 (norms of queries and keys)."""

from __future__ import annotations

from ..anatomy import Anatomy, Attention, Block, FeedForward, Linear, Norm
from ..rotary import tables


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.model
    head_size = body.layers[0].self_attn.head_dim
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=head_size,
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
            qkv=Linear.of(attention.q_proj, attention.k_proj, attention.v_proj),
            projection=Linear.of(attention.o_proj),
            scale=attention.scaling,
            query_norm=_norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
            key_norm=_norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
            window=_window(attention, config),
        ),
        feed_forward_norm=_norm(layer.post_attention_layernorm),
        feed_forward=FeedForward(
            up=Linear.of(feed_forward.gate_proj, feed_forward.up_proj),
            down=Linear.of(feed_forward.down_proj),
            activation=config.hidden_act,
            gated=True,
        ),
    )


def _norm(module) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _window(attention, config) -> int | None:
    """Qwen's layers say for themselves whether they have a window, Mistral's all have the same one, Llama's none."""
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window
    return config.sliding_window if config.model_type == "mistral" else None
