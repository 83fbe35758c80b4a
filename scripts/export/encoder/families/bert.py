"""BERT, and what has its shape: MiniLM, E5, BGE, GTE, cross-encoders of MS MARCO."""

from __future__ import annotations

from decoder.anatomy import Linear, Norm

from ..anatomy import Anatomy, Block, Head, Step


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.base_model
    return body_of(body, config, context, 0, head(model, config))


def body_of(body, config, context: int, skipped: int, head: Head | None) -> Anatomy:
    """The common part of BERT and RoBERTa; the first `skipped` positions are not those of tokens."""
    embeddings = body.embeddings
    positions = embeddings.position_embeddings.weight[skipped : skipped + context]
    types = embeddings.token_type_embeddings.weight
    if len(types) == 1:
        positions, types = positions + types[0], None
    return Anatomy(
        width=config.hidden_size,
        heads=config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=context,
        activation=config.hidden_act,
        embedding=embeddings.word_embeddings.weight,
        positions=positions,
        types=types,
        embedding_norm=Norm.layer(embeddings.LayerNorm),
        blocks=[_block(layer) for layer in body.encoder.layer],
        head=head,
    )


def _block(layer) -> Block:
    attention = getattr(layer.attention, "self")
    return Block(
        qkv=Linear.of(attention.query, attention.key, attention.value),
        projection=Linear.of(layer.attention.output.dense),
        attention_norm=Norm.layer(layer.attention.output.LayerNorm),
        up=Linear.of(layer.intermediate.dense),
        down=Linear.of(layer.output.dense),
        feed_forward_norm=Norm.layer(layer.output.LayerNorm),
    )


def head(model, config) -> Head | None:
    if hasattr(model, "cls"):
        transform = model.cls.predictions.transform
        step = Step(Linear.of(transform.dense), config.hidden_act, Norm.layer(transform.LayerNorm))
        return Head("masked-lm", step, Linear.of(model.cls.predictions.decoder))
    if hasattr(model, "classifier"):
        return Head("classification", Step(Linear.of(model.base_model.pooler.dense), "tanh"), Linear.of(model.classifier))
    return None
