"""What a decoder consists of, in one vocabulary for all families: a family fills it in, the graph is written from it."""

from __future__ import annotations

import dataclasses

import torch


class Unsupported(ValueError):
    """What a model asks for and the graph cannot give."""


@dataclasses.dataclass
class Linear:
    """A matrix [out, in] with or without a bias [out]."""

    # Side by side along `out`; joined only when they are written, one layer at a time, so that no second copy of a model is held.
    parts: tuple[torch.Tensor, ...]
    bias: torch.Tensor | None = None

    @property
    def weight(self) -> torch.Tensor:
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)

    @classmethod
    def of(cls, *modules: torch.nn.Linear) -> Linear:
        """The linear layers side by side, as one: their outputs come one after the other."""
        parts = tuple(module.weight for module in modules)
        if all(module.bias is None for module in modules):
            return cls(parts)
        zeros = [module.weight.new_zeros(module.weight.shape[0]) if module.bias is None else module.bias for module in modules]
        return cls(parts, torch.cat(zeros))


@dataclasses.dataclass
class Norm:
    """An RMS norm, or, where `centred`, a layer norm."""

    weight: torch.Tensor
    epsilon: float
    centred: bool = False
    bias: torch.Tensor | None = None

    @classmethod
    def layer(cls, module: torch.nn.LayerNorm) -> Norm:
        return cls(module.weight, module.eps, centred=True, bias=module.bias)


@dataclasses.dataclass
class Attention:
    """Attention by groups of query heads over keys and values that a cache holds."""

    qkv: Linear
    projection: Linear
    scale: float
    # Over each head's own values, before the rotation.
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    # A token sees itself and the window - 1 tokens before it.
    window: int | None = None
    # Scores pass through softcap * tanh(score / softcap).
    softcap: float = 0.0


@dataclasses.dataclass
class FeedForward:
    """`down(activation(up(x)))`; where `gated`, `up` gives gate and value, and it is `down(activation(gate) * value)`."""

    up: Linear
    down: Linear
    activation: str
    gated: bool


@dataclasses.dataclass
class Block:
    """One layer of the decoder."""

    attention_norm: Norm
    attention: Attention
    feed_forward: FeedForward
    # None: the feed-forward part reads what the attention reads (a parallel block with one norm).
    feed_forward_norm: Norm | None
    # Over what each part gives, before it is added.
    attention_post_norm: Norm | None = None
    feed_forward_post_norm: Norm | None = None
    # Both parts read the same hidden state, and both are added to it.
    parallel: bool = False


@dataclasses.dataclass
class Anatomy:
    """A whole decoder."""

    width: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    embedding: torch.Tensor
    blocks: list[Block]
    norm: Norm
    head: Linear
    # The head's matrix is the embedding.
    tied: bool
    embedding_scale: float | None = None
    # Learned positions [context, width]; None where the attention rotates.
    positions: torch.Tensor | None = None
    # cos and sin [2 * context, rotated values of a head / 2].
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None
    logit_softcap: float | None = None

    @property
    def tile(self) -> int:
        """The number of a row's new tokens that GroupQueryAttention takes together on the CPU (fewer where the second-level cache is
        small: its bytes / 32 / head size). A token alone in its tile takes another path and gets other last bits: so do single
        steps, and so would the last token of a chunk of n * tile + 1."""
        return 2 * self.head_size
