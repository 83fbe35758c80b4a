"""The families of encoders that can be exported, by transformers' `model_type`. A family is one function, model → anatomy."""

from __future__ import annotations

from decoder.anatomy import Unsupported

from ..anatomy import Anatomy
from . import bert, distilbert, mpnet, roberta

READERS = {
    "bert": bert.read,
    "camembert": roberta.read,
    "distilbert": distilbert.read,
    "mpnet": mpnet.read,
    "roberta": roberta.read,
    "xlm-roberta": roberta.read,
}

# Below this there is no room for the comparison with torch.
SHORTEST = 16


def check(config, context: int | None) -> int:
    """The most tokens of a text; raises Unsupported for a family or a context that cannot be had. Needs the configuration only."""
    if config.model_type not in READERS:
        raise Unsupported(f"model_type {config.model_type!r} is not supported: {', '.join(READERS)} are")
    longest = positions(config)
    context = context or longest
    if not SHORTEST <= context <= longest:
        raise Unsupported(f"--context {context}: must be {SHORTEST} to {longest}, the model's own")
    return context


def positions(config) -> int:
    """How many positions a model has for tokens: RoBERTa and MPNet begin to count behind their padding token's id."""
    skipped = config.pad_token_id + 1 if config.model_type in ("camembert", "mpnet", "roberta", "xlm-roberta") else 0
    return config.max_position_embeddings - skipped


def read(model, context: int) -> Anatomy:
    config = model.config
    if getattr(config, "is_decoder", False):
        raise Unsupported("is_decoder is not supported: an encoder's tokens see each other")
    if getattr(config, "position_embedding_type", "absolute") not in (None, "absolute"):
        raise Unsupported(f"position_embedding_type {config.position_embedding_type!r} is not supported: absolute is")
    return READERS[config.model_type](model, context)
