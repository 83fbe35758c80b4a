"""What an encoder–decoder consists of, in one vocabulary for all families: a family fills it in, the graphs are written from it."""

from __future__ import annotations

import dataclasses

import torch
from decoder.anatomy import FeedForward, Linear, Norm


@dataclasses.dataclass
class SelfAttention:
    """Attention of a stack to itself: of an encoder in both directions, of a decoder to what stands before."""

    qkv: Linear
    projection: Linear


@dataclasses.dataclass
class CrossAttention:
    """Attention of a decoder to what the encoder gives."""

    query: Linear
    # Keys and values side by side, from the encoder's last hidden state.
    key_value: Linear
    projection: Linear


@dataclasses.dataclass
class Block:
    """One layer. Its norms stand in front of its parts, or, where the anatomy's norms come after, behind what they give is added."""

    attention_norm: Norm
    attention: SelfAttention
    feed_forward_norm: Norm
    feed_forward: FeedForward
    # Of a decoder.
    cross_norm: Norm | None = None
    cross: CrossAttention | None = None


@dataclasses.dataclass
class Stack:
    """The encoder, or the decoder."""

    heads: int
    blocks: list[Block]
    # Learned positions [context, width]; None where the attention has a bias by distance.
    positions: torch.Tensor | None = None
    # Added to the attention's scores: [distances, heads]. Of an encoder for key minus query from 1 - context to context - 1, of a decoder
    # for query minus key from 0 to context - 1.
    distances: torch.Tensor | None = None
    # Over the embedded tokens.
    embedding_norm: Norm | None = None
    # Over what the last block gives.
    norm: Norm | None = None


@dataclasses.dataclass
class Anatomy:
    """A whole encoder–decoder."""

    width: int
    head_size: int
    vocabulary: int
    # The most tokens of an input, and of an output.
    context: int
    # By which the products of queries and keys are multiplied.
    scale: float
    embedding: torch.Tensor
    encoder: Stack
    decoder: Stack
    head: Linear
    # The head's matrix is the embedding.
    tied: bool
    # The norms stand behind the parts (BART) and not in front of them (T5).
    norms_after: bool
    # The token that every output begins with.
    start: int
    embedding_scale: float | None = None
