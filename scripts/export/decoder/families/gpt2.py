"""GPT-2: learned positions, layer norms, and matrices that are stored the other way round."""

from __future__ import annotations

from ..anatomy import Anatomy, Attention, Block, FeedForward, Linear, Norm, Unsupported


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.transformer
    if config.add_cross_attention:
        raise Unsupported("add_cross_attention is not supported: the graph has no encoder")
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=context,
        embedding=body.wte.weight,
        positions=body.wpe.weight[:context],
        blocks=[_block(layer, config) for layer in body.h],
        norm=Norm.layer(body.ln_f),
        head=Linear.of(model.lm_head),
        tied=config.tie_word_embeddings,
    )


def _block(layer, config) -> Block:
    return Block(
        attention_norm=Norm.layer(layer.ln_1),
        attention=Attention(qkv=_linear(layer.attn.c_attn), projection=_linear(layer.attn.c_proj), scale=layer.attn.scaling),
        feed_forward_norm=Norm.layer(layer.ln_2),
        feed_forward=FeedForward(
            up=_linear(layer.mlp.c_fc), down=_linear(layer.mlp.c_proj), activation=config.activation_function, gated=False
        ),
    )


def _linear(module) -> Linear:
    """Of a Conv1D, whose weight is [in, out]."""
    return Linear((module.weight.T,), module.bias)
