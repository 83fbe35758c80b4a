"""A small Llama-shaped decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Shape:
    """The decoder's sizes; defaults give 5.2 million parameters."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    feed_forward: int = 688
    context: int = 512
    rope_theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        return self.width // self.heads


def rotary(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the rotary positions: two tensors [context, head_size / 2]."""
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_size, 2).double() / shape.head_size)
    angles = torch.outer(torch.arange(shape.context).double(), frequencies)
    return angles.cos().float(), angles.sin().float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates [batch, heads, time, head_size]; the two halves of a head are a pair, as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
    def __init__(self, shape: Shape, dropout: float):
        super().__init__()
        kv_width = shape.kv_heads * shape.head_size
        self.shape, self.dropout = shape, dropout
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.qkv = nn.Linear(shape.width, shape.width + 2 * kv_width, bias=False)
        self.projection = nn.Linear(shape.width, shape.width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.gate_up = nn.Linear(shape.width, 2 * shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        kv_width = self.shape.kv_heads * self.shape.head_size
        q, k, v = self.qkv(self.attention_norm(x)).split([width, kv_width, kv_width], dim=-1)
        q, k, v = (part.view(batch, time, -1, self.shape.head_size).transpose(1, 2) for part in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        attended = attended.transpose(1, 2).reshape(batch, time, width)
        x = x + F.dropout(self.projection(attended), self.dropout, self.training)
        gate, up = self.gate_up(self.feed_forward_norm(x)).chunk(2, dim=-1)
        return x + F.dropout(self.down(F.silu(gate) * up), self.dropout, self.training)


class Decoder(nn.Module):
    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        cos, sin = rotary(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [batch, time] to logits [batch, time, vocabulary]."""
        time = ids.shape[1]
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos[:time], self.sin[:time])
        return F.linear(self.norm(x), self.embedding.weight)
