"""The families of encoder–decoders that can be exported, by transformers' `model_type`. A family is one function, model → anatomy."""

from __future__ import annotations

from decoder.anatomy import Unsupported

from ..anatomy import Anatomy
from . import bart, t5

READERS = {
    "bart": bart.read,
    "mbart": bart.read,
    "mt5": t5.read,
    "pegasus": bart.read,
    "t5": t5.read,
}

# Below this there is no room for the comparison with torch.
SHORTEST = 16
# T5's attention knows distances and not places: this is what its checkpoints were trained with.
USUAL = 512


def check(config, context: int | None) -> int:
    """The most tokens of an input and of an output; raises Unsupported for a family or a context that cannot be had."""
    if config.model_type not in READERS:
        raise Unsupported(f"model_type {config.model_type!r} is not supported: {', '.join(READERS)} are")
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None:
        return _at_least(context or getattr(config, "n_positions", None) or USUAL)
    if context is not None and context > longest:
        raise Unsupported(f"--context {context}: the model has {longest} positions")
    return _at_least(context or longest)


def _at_least(context: int) -> int:
    if context < SHORTEST:
        raise Unsupported(f"--context {context}: must be at least {SHORTEST}")
    return context


def read(model, context: int) -> Anatomy:
    anatomy = READERS[model.config.model_type](model, context)
    if anatomy.head_size % 8:
        raise Unsupported(f"heads of {anatomy.head_size} values are not supported: GroupQueryAttention wants a multiple of 8")
    return anatomy
