"""BART and those that took its block over: mBART (norms in front), Pegasus (the same, with sinusoidal positions)."""

from __future__ import annotations

from decoder.anatomy import FeedForward, Linear, Norm, Unsupported

from ..anatomy import Anatomy, Block, CrossAttention, SelfAttention, Stack


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.model
    if config.encoder_attention_heads != config.decoder_attention_heads:
        raise Unsupported("encoder_attention_heads and decoder_attention_heads differ: keys of one head size are supported")
    head_size = config.d_model // config.decoder_attention_heads
    return Anatomy(
        width=config.d_model,
        head_size=head_size,
        vocabulary=model.lm_head.weight.shape[0],
        context=context,
        scale=head_size**-0.5,
        embedding=body.shared.weight,
        embedding_scale=config.d_model**0.5 if config.scale_embedding else None,
        encoder=_stack(body.encoder, config.encoder_attention_heads, config, context),
        decoder=_stack(body.decoder, config.decoder_attention_heads, config, context),
        head=Linear((model.lm_head.weight,), model.final_logits_bias[0]),
        tied=model.lm_head.weight.data_ptr() == body.shared.weight.data_ptr(),
        norms_after=config.model_type == "bart",
        start=model.generation_config.decoder_start_token_id,
    )


def _stack(stack, heads: int, config, context: int) -> Stack:
    positions = stack.embed_positions
    # BART's table has two rows in front that stand for no place.
    offset = getattr(positions, "offset", 0)
    norm = getattr(stack, "layernorm_embedding", None)
    last = getattr(stack, "layer_norm", None)
    return Stack(
        heads=heads,
        blocks=[_block(layer, config.activation_function) for layer in stack.layers],
        positions=positions.weight[offset : offset + context],
        embedding_norm=None if norm is None else Norm.layer(norm),
        norm=None if last is None else Norm.layer(last),
    )


def _block(layer, activation: str) -> Block:
    attention = layer.self_attn
    made = Block(
        attention_norm=Norm.layer(layer.self_attn_layer_norm),
        attention=SelfAttention(
            qkv=Linear.of(attention.q_proj, attention.k_proj, attention.v_proj), projection=Linear.of(attention.out_proj)
        ),
        feed_forward_norm=Norm.layer(layer.final_layer_norm),
        feed_forward=FeedForward(up=Linear.of(layer.fc1), down=Linear.of(layer.fc2), activation=activation, gated=False),
    )
    if hasattr(layer, "encoder_attn"):
        cross = layer.encoder_attn
        made.cross_norm = Norm.layer(layer.encoder_attn_layer_norm)
        made.cross = CrossAttention(
            query=Linear.of(cross.q_proj), key_value=Linear.of(cross.k_proj, cross.v_proj), projection=Linear.of(cross.out_proj)
        )
    return made
