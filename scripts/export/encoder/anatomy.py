"""What an encoder consists of, in one vocabulary for all families: a family fills it in, the graph is written from it."""

from __future__ import annotations

import dataclasses

import torch
from decoder.anatomy import Linear, Norm


@dataclasses.dataclass
class Block:
    """One layer: attention and feed-forward, each added to what it read and normed (post-norm)."""

    qkv: Linear
    projection: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    feed_forward_norm: Norm


@dataclasses.dataclass
class Step:
    """`norm(activation(linear(x)))` of a head; the norm is optional."""

    linear: Linear
    activation: str
    norm: Norm | None = None


@dataclasses.dataclass
class Head:
    """What a model makes of its token vectors: a step, and a matrix that gives the logits."""

    # "masked-lm": logits over the vocabulary at each token; "classification": logits over classes, from the first token.
    kind: str
    step: Step
    output: Linear


@dataclasses.dataclass
class Anatomy:
    """A whole encoder."""

    width: int
    heads: int
    vocabulary: int
    # The most tokens of a text.
    context: int
    activation: str
    embedding: torch.Tensor
    # Learned positions [context, width]: the first row is that of a text's first token.
    positions: torch.Tensor
    # Token types [types, width]; None where there is one or none, which the positions hold then.
    types: torch.Tensor | None
    embedding_norm: Norm
    blocks: list[Block]
    # Added to every layer's attention scores, by how far a token stands behind another [heads, 2 * context - 1].
    distances: torch.Tensor | None = None
    head: Head | None = None
