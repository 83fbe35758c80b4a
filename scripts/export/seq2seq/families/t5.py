"""T5 and those that took its block over: T5 1.1 and Flan-T5 (gated, a head of its own), mT5. RMS norms, no biases, attention that is not
scaled and knows how far apart two tokens are."""

from __future__ import annotations

import torch
from decoder.anatomy import FeedForward, Linear, Norm

from ..anatomy import Anatomy, Block, CrossAttention, SelfAttention, Stack


def read(model, context: int) -> Anatomy:
    config = model.config
    norm = _norm(model.decoder.final_layer_norm)
    # mT5 never scales; T5 says whether it does.
    if getattr(config, "scale_decoder_outputs", False):
        norm.weight = norm.weight * config.d_model**-0.5
    return Anatomy(
        width=config.d_model,
        head_size=config.d_kv,
        vocabulary=config.vocab_size,
        context=context,
        scale=1.0,
        embedding=model.shared.weight,
        encoder=_stack(model.encoder, config.num_heads, torch.arange(1 - context, context), _norm(model.encoder.final_layer_norm)),
        decoder=_stack(model.decoder, config.num_heads, -torch.arange(context), norm),
        head=Linear.of(model.lm_head),
        tied=model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr(),
        norms_after=False,
        start=model.generation_config.decoder_start_token_id,
    )


@torch.no_grad()
def _stack(stack, heads: int, relative: torch.Tensor, norm: Norm) -> Stack:
    """`relative`: the places of keys as seen from a query, in the order of the table."""
    first = stack.block[0].layer[0].SelfAttention
    buckets = first._relative_position_bucket(
        relative,
        bidirectional=not stack.is_decoder,
        num_buckets=first.relative_attention_num_buckets,
        max_distance=first.relative_attention_max_distance,
    )
    blocks = [_block(block) for block in stack.block]
    return Stack(heads=heads, blocks=blocks, distances=first.relative_attention_bias(buckets), norm=norm)


def _block(block) -> Block:
    parts = block.layer
    attention, feed_forward = parts[0].SelfAttention, parts[-1].DenseReluDense
    gated = hasattr(feed_forward, "wi_0")
    made = Block(
        attention_norm=_norm(parts[0].layer_norm),
        attention=SelfAttention(qkv=Linear.of(attention.q, attention.k, attention.v), projection=Linear.of(attention.o)),
        feed_forward_norm=_norm(parts[-1].layer_norm),
        feed_forward=FeedForward(
            up=Linear.of(feed_forward.wi_0, feed_forward.wi_1) if gated else Linear.of(feed_forward.wi),
            down=Linear.of(feed_forward.wo),
            activation=attention.config.dense_act_fn,
            gated=gated,
        ),
    )
    if len(parts) == 3:
        cross = parts[1].EncDecAttention
        made.cross_norm = _norm(parts[1].layer_norm)
        made.cross = CrossAttention(query=Linear.of(cross.q), key_value=Linear.of(cross.k, cross.v), projection=Linear.of(cross.o))
    return made


def _norm(module) -> Norm:
    return Norm(module.weight, module.variance_epsilon)
