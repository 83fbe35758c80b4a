"""What transformers gives where keys and values are those that a graph's cache of 8 bits gives back."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from unittest import mock

import onnx
import torch
from onnx import numpy_helper
from transformers.models.llama import modeling_llama


@contextlib.contextmanager
def seen(graph: pathlib.Path) -> Iterator[None]:
    """Within it Llama's attention, of the form "eager", sees keys (as rotated) and values in the steps of this graph's scales."""
    scales = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in onnx.load(graph).graph.initializer}
    whole = modeling_llama.eager_attention_forward

    def attention(module, query, key, value, *others, **named):
        key, value = (_rounded(x, scales[f"layer.{module.layer_idx}.{part}_scale"]) for x, part in ((key, "key"), (value, "value")))
        return whole(module, query, key, value, *others, **named)

    with mock.patch.object(modeling_llama, "eager_attention_forward", attention):
        yield


def _rounded(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`x`: [rows, heads, tokens, head size]; `scale`: [heads, head size]."""
    steps = scale[:, None]
    return (x / steps).round().clamp(-128, 127) * steps
