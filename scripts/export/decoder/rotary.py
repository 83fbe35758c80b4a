"""The tables of a rotary embedding, computed once with the model's own frequencies."""

from __future__ import annotations

import dataclasses

import torch

from .anatomy import Anatomy, Attention, Linear, Unsupported

# The frequencies of these do not depend on a text's length.
STATIC = {"default", "linear", "llama3", "yarn"}
# Those of these change once a text is longer than the length of the first training.
LENGTH_DEPENDENT = {"dynamic", "longrope"}


def limit(config) -> int | None:
    """The longest context for which one table holds; None: any. Raises Unsupported for a kind that is not known."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind in STATIC:
        return None
    if kind in LENGTH_DEPENDENT:
        return rope.get("original_max_position_embeddings") or config.max_position_embeddings
    raise Unsupported(f"rope_type {kind!r} is not supported: {', '.join(sorted(STATIC | LENGTH_DEPENDENT))} are")


def tables(module: torch.nn.Module, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin for twice the context: a padded row may reach beyond it, behind the tokens that it really has."""
    positions = torch.arange(2 * context, dtype=torch.float32)
    angles = positions[:, None] * module.original_inv_freq.float()
    return angles.cos() * module.attention_scaling, angles.sin() * module.attention_scaling


def aligned(anatomy: Anatomy) -> Anatomy:
    """GroupQueryAttention rotates pairs by the multiple of 8. Where a model rotates fewer, values that it does not rotate are made
    partners of an angle of zero, and moved there: queries and keys alike, so that their products stay what they were."""
    if anatomy.rotary is None or anatomy.rotary[0].shape[1] % 8 == 0:
        return anatomy
    cos, sin = anatomy.rotary
    pairs, size = cos.shape[1], anatomy.head_size
    wide = pairs + -pairs % 8
    if 2 * wide > size:
        raise Unsupported(f"heads of {size} values with {2 * pairs} rotated are not supported: their half must be a multiple of 8")
    spare = torch.arange(2 * pairs, size)
    filling = wide - pairs
    order = torch.cat([
        torch.arange(pairs), spare[:filling],
        torch.arange(pairs, 2 * pairs), spare[filling : 2 * filling],
        spare[2 * filling :],
    ])  # fmt: skip
    still = cos.new_ones(len(cos), filling)
    for block in anatomy.blocks:
        _reorder(block.attention, order, anatomy)
    return dataclasses.replace(anatomy, rotary=(torch.cat([cos, still], 1), torch.cat([sin, 0 * still], 1)))


def _reorder(attention: Attention, order: torch.Tensor, anatomy: Anatomy) -> None:
    """Gives the values of each query head and key head another order."""
    size, rotated = anatomy.head_size, anatomy.heads + anatomy.kv_heads
    starts = torch.arange(rotated) * size
    values = torch.arange(rotated * size, (rotated + anatomy.kv_heads) * size)
    rows = torch.cat([(starts[:, None] + order).flatten(), values])
    qkv = attention.qkv
    attention.qkv = Linear((qkv.weight[rows],), None if qkv.bias is None else qkv.bias[rows])
    for norm in (attention.query_norm, attention.key_norm):
        if norm is not None:
            norm.weight = norm.weight[order]
            norm.bias = None if norm.bias is None else norm.bias[order]
