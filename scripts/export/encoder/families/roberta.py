"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT with other heads, whose positions begin behind the padding token's id."""

from __future__ import annotations

from decoder.anatomy import Linear, Norm

from ..anatomy import Anatomy, Head, Step
from .bert import body_of


def read(model, context: int) -> Anatomy:
    return body_of(model.base_model, model.config, context, model.config.pad_token_id + 1, head(model))


def head(model) -> Head | None:
    if hasattr(model, "lm_head"):
        step = Step(Linear.of(model.lm_head.dense), "gelu", Norm.layer(model.lm_head.layer_norm))
        return Head("masked-lm", step, Linear.of(model.lm_head.decoder))
    if hasattr(model, "classifier"):
        return Head("classification", Step(Linear.of(model.classifier.dense), "tanh"), Linear.of(model.classifier.out_proj))
    return None
