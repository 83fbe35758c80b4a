"""DistilBERT: BERT without token types, under other names."""

from __future__ import annotations

from decoder.anatomy import Linear, Norm

from ..anatomy import Anatomy, Block, Head, Step


def read(model, context: int) -> Anatomy:
    config, body = model.config, model.base_model
    return Anatomy(
        width=config.dim,
        heads=config.n_heads,
        vocabulary=config.vocab_size,
        context=context,
        activation=config.activation,
        embedding=body.embeddings.word_embeddings.weight,
        positions=body.embeddings.position_embeddings.weight[:context],
        types=None,
        embedding_norm=Norm.layer(body.embeddings.LayerNorm),
        blocks=[_block(layer) for layer in body.transformer.layer],
        head=_head(model),
    )


def _block(layer) -> Block:
    attention = layer.attention
    return Block(
        qkv=Linear.of(attention.q_lin, attention.k_lin, attention.v_lin),
        projection=Linear.of(attention.out_lin),
        attention_norm=Norm.layer(layer.sa_layer_norm),
        up=Linear.of(layer.ffn.lin1),
        down=Linear.of(layer.ffn.lin2),
        feed_forward_norm=Norm.layer(layer.output_layer_norm),
    )


def _head(model) -> Head | None:
    if hasattr(model, "vocab_projector"):
        step = Step(Linear.of(model.vocab_transform), model.config.activation, Norm.layer(model.vocab_layer_norm))
        return Head("masked-lm", step, Linear.of(model.vocab_projector))
    if hasattr(model, "classifier"):
        return Head("classification", Step(Linear.of(model.pre_classifier), "relu"), Linear.of(model.classifier))
    return None
