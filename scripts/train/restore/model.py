"""A small T5 (Raffel et al. 2020): encoder and decoder with relative position biases, RMSNorm before each part,
gated GELU (T5 1.1), no biases, tied embeddings."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Shape:
    vocabulary: int = 384
    width: int = 160
    encoder_layers: int = 3
    decoder_layers: int = 3
    heads: int = 4
    head_size: int = 40
    feed_forward: int = 448
    buckets: int = 32
    max_distance: int = 128
    max_tokens: int = 256
    epsilon: float = 1e-6


def bucket(distance: torch.Tensor, bidirectional: bool, buckets: int, max_distance: int) -> torch.Tensor:
    """T5's buckets of key position minus query position: exact when near, logarithmic when far."""
    result = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        result = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    far = exact + (torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (buckets - exact)).long()
    return result + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


class PositionBias(nn.Module):
    def __init__(self, shape: Shape, bidirectional: bool):
        super().__init__()
        self.shape, self.bidirectional = shape, bidirectional
        self.table = nn.Embedding(shape.buckets, shape.heads)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Positions [q] and [k] to a bias [1, heads, q, k]."""
        distance = keys[None, :] - queries[:, None]
        buckets = bucket(distance, self.bidirectional, self.shape.buckets, self.shape.max_distance)
        return self.table(buckets).permute(2, 0, 1)[None]


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        inner = shape.heads * shape.head_size
        self.shape = shape
        self.q, self.k, self.v = (nn.Linear(shape.width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, shape.width, bias=False)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.shape.heads, self.shape.head_size)).transpose(1, 2)

    def keys_values(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.split(self.k(x)), self.split(self.v(x))

    def attend(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        scores = self.split(self.q(x)) @ keys.transpose(-1, -2) / math.sqrt(self.shape.head_size) + bias
        mixed = scores.softmax(-1) @ values
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.gate, self.up = (nn.Linear(shape.width, shape.feed_forward, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class RmsNorm(nn.Module):
    """T5's norm, spelt out: the exporter does not know torch's own."""

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.epsilon) * self.weight


def norm(shape: Shape) -> RmsNorm:
    return RmsNorm(shape.width, shape.epsilon)


class EncoderLayer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.norms = nn.ModuleList(norm(shape) for _ in range(2))
        self.attention, self.feed_forward = Attention(shape), FeedForward(shape)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        normed = self.norms[0](x)
        x = x + self.attention.attend(normed, *self.attention.keys_values(normed), bias)
        return x + self.feed_forward(self.norms[1](x))


class DecoderLayer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.norms = nn.ModuleList(norm(shape) for _ in range(3))
        self.self_attention, self.cross_attention, self.feed_forward = Attention(shape), Attention(shape), FeedForward(shape)

    def forward(self, x, past, cross, bias, cross_bias):
        """`past` holds earlier keys and values, or is None; answers with x and all keys and values."""
        normed = self.norms[0](x)
        keys, values = self.self_attention.keys_values(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = x + self.self_attention.attend(normed, keys, values, bias)
        x = x + self.cross_attention.attend(self.norms[1](x), *cross, cross_bias)
        return x + self.feed_forward(self.norms[2](x)), (keys, values)


class Seq2Seq(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.encoder = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.encoder_bias, self.decoder_bias = PositionBias(shape, True), PositionBias(shape, False)
        self.encoder_norm, self.decoder_norm = norm(shape), norm(shape)
        nn.init.normal_(self.embedding.weight, std=0.3)
        # What follows each residual is scaled by depth, so that the sum keeps its size.
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                parameter.data.mul_(0.3)

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Ids and mask [b, s] to hidden states [b, s, width]."""
        positions = torch.arange(ids.shape[1])
        bias = self.encoder_bias(positions, positions) + mask_bias(mask)
        x = self.embedding(ids)
        for layer in self.encoder:
            x = layer(x, bias)
        return self.encoder_norm(x)

    def cross(self, hidden: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The keys and values that each decoder layer attends to."""
        return [layer.cross_attention.keys_values(hidden) for layer in self.decoder]

    def decode(self, ids, past, cross, mask):
        """Ids [b, t] behind `past` (None at the start) to logits [b, t, vocabulary] and all keys and values."""
        before = 0 if past is None else past[0][0].shape[2]
        time = ids.shape[1]
        queries, keys = torch.arange(time) + before, torch.arange(before + time)
        future = (keys[None, :] > queries[:, None])[None, None] * -1e9
        bias = self.decoder_bias(queries, keys) + future
        x = self.embedding(ids)
        present = []
        for index, layer in enumerate(self.decoder):
            x, kept = layer(x, None if past is None else past[index], cross[index], bias, mask_bias(mask))
            present.append(kept)
        x = self.decoder_norm(x) * self.shape.width**-0.5
        return F.linear(x, self.embedding.weight), present

    def forward(self, ids, mask, target):
        return self.decode(target, None, self.cross(self.encode(ids, mask)), mask)[0]


def mask_bias(mask: torch.Tensor) -> torch.Tensor:
    """A mask [b, s] of ones and zeros to a bias [b, 1, 1, s]."""
    return (1.0 - mask[:, None, None, :].float()) * -1e9
