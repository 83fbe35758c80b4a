"""MPNet: BERT without token types, whose attention also knows how far two tokens stand apart."""

from __future__ import annotations

import torch
from decoder.anatomy import Linear, Norm

from ..anatomy import Anatomy, Block
from .roberta import head


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.base_model
    skipped = config.pad_token_id + 1
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=context,
        activation=config.hidden_act,
        embedding=body.embeddings.word_embeddings.weight,
        positions=body.embeddings.position_embeddings.weight[skipped : skipped + context],
        types=None,
        embedding_norm=Norm.layer(body.embeddings.LayerNorm),
        blocks=[_block(layer) for layer in body.encoder.layer],
        distances=_distances(body.encoder, context),
        head=head(model),
    )


def _distances(encoder, context: int) -> torch.Tensor:
    apart = torch.arange(-(context - 1), context)
    table = encoder.relative_attention_bias
    return table(encoder.relative_position_bucket(apart)).T


def _block(layer) -> Block:
    attention = layer.attention.attn
    return Block(
        qkv=Linear.of(attention.q, attention.k, attention.v),
        projection=Linear.of(attention.o),
        attention_norm=Norm.layer(layer.attention.LayerNorm),
        up=Linear.of(layer.intermediate.dense),
        down=Linear.of(layer.output.dense),
        feed_forward_norm=Norm.layer(layer.output.LayerNorm),
    )
