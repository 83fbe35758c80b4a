"""Writes an anatomy as a graph of texts of one length: a run takes no padding, so that a text's bits are its own.

With `padding` it takes `attention_mask` too, and texts of different lengths may share a run. That costs up to a tenth of the speed with
long texts even where nothing is padded.
"""

from __future__ import annotations

import numpy
import torch
from decoder.anatomy import Norm, Unsupported
from decoder.graph import Graph
from decoder.weights import Full, Weights
from onnx import TensorProto

from .anatomy import Anatomy, Block, Head, Step

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def encoder_graph(anatomy: Anatomy, weights: Weights, padding: bool = False) -> Graph:
    graph = Graph()
    graph.input("input_ids", INT64, ["b", "s"])
    mask = graph.node("Cast", [graph.input("attention_mask", INT64, ["b", "s"])], "mask", to=INT32) if padding else ""
    if anatomy.types is not None:
        graph.input("token_type_ids", INT64, ["b", "s"])
    graph.constant("sizes", numpy.array([anatomy.width] * 3, "i8"))
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    x = _embedded(graph, anatomy, length)
    apart = "" if anatomy.distances is None else _apart(graph, anatomy, length)
    for index, block in enumerate(anatomy.blocks):
        x = _block(graph, x, f"layer.{index}", block, anatomy, weights, mask, apart)
    if anatomy.head is None:
        graph.nodes[-1].output[0] = graph.output("last_hidden_state", FLOAT, ["b", "s", anatomy.width])
    else:
        _head(graph, x, anatomy.head, anatomy, weights)
    return graph


def _embedded(graph: Graph, anatomy: Anatomy, length: str) -> str:
    first = graph.constant("first", numpy.array([0], "i8"))
    places = graph.node("Slice", [graph.weight("positions", anatomy.positions), first, length], "placed")
    x = graph.node("Gather", [graph.weight("embedding", anatomy.embedding), "input_ids"], "embedded", axis=0)
    if anatomy.types is not None:
        kind = graph.node("Gather", [graph.weight("types", anatomy.types), "token_type_ids"], "typed", axis=0)
        x = graph.node("Add", [x, kind], "embedded.typed")
    return _norm(graph, graph.node("Add", [x, places], "embedded.placed"), "embedding_norm", anatomy.embedding_norm)


def _apart(graph: Graph, anatomy: Anatomy, length: str) -> str:
    """What each head adds for each pair of places [1, heads, s, s]."""
    graph.constant("zero", numpy.array(0, "i8"))
    graph.constant("one", numpy.array(1, "i8"))
    count = graph.node("Squeeze", [length], "count")
    places = graph.node("Range", ["zero", count, "one"], "places")
    rows = graph.node("Unsqueeze", [places, graph.constant("last", numpy.array([1], "i8"))], "rows")
    behind = graph.node("Add", [graph.node("Sub", [places, rows], "behind"), graph.constant("middle", numpy.array(anatomy.context - 1, "i8"))],
                        "behind.index")  # fmt: skip
    table = graph.weight("distances", anatomy.distances)
    return graph.node("Unsqueeze", [graph.node("Gather", [table, behind], "apart", axis=1), "first"], "apart.all")


def _block(graph: Graph, x: str, name: str, block: Block, anatomy: Anatomy, weights: Weights, mask: str, apart: str) -> str:
    qkv = weights.layers.linear(graph, x, f"{name}.qkv", block.qkv)
    parts = graph.node("Split", [qkv, "sizes"], [f"{name}.{part}" for part in ("query", "key", "value")], axis=-1)
    inputs = [*parts, "", mask, apart]
    while not inputs[-1]:
        inputs.pop()
    attended = graph.node("MultiHeadAttention", inputs, f"{name}.attended", "com.microsoft", num_heads=anatomy.heads)
    projected = weights.layers.linear(graph, attended, f"{name}.projection", block.projection)
    x = _norm(graph, graph.node("Add", [projected, x], f"{name}.with_attention"), f"{name}.attention_norm", block.attention_norm)
    up = _activated(graph, weights.layers.linear(graph, x, f"{name}.up", block.up), anatomy.activation)
    down = weights.layers.linear(graph, up, f"{name}.down", block.down)
    return _norm(graph, graph.node("Add", [down, x], f"{name}.with_feed_forward"), f"{name}.feed_forward_norm", block.feed_forward_norm)


def _head(graph: Graph, x: str, head: Head, anatomy: Anatomy, weights: Weights) -> None:
    if head.kind == "classification":
        rows, classes = "b", head.output.weight.shape[0]
        x = graph.node("Gather", [x, graph.constant("begin", numpy.array(0, "i8"))], "chosen", axis=1)
    else:
        # Logits over a vocabulary are large: those of the tokens that are asked for alone, by their places in all rows together.
        rows, classes = "r", anatomy.vocabulary
        graph.input("logit_index", INT64, ["r"])
        flat = graph.node("Reshape", [x, graph.constant("rows", numpy.array([-1, anatomy.width], "i8"))], "flat")
        x = graph.node("Gather", [flat, "logit_index"], "chosen", axis=0)
    x = _step(graph, x, head.step, weights)
    tied = head.output.weight.data_ptr() == anatomy.embedding.data_ptr()
    if tied and isinstance(weights.head, Full):
        # One copy serves both ends.
        bias = [] if head.output.bias is None else [graph.weight("head.bias", head.output.bias)]
        graph.node("Gemm", [x, "embedding", *bias], "head.out", transB=1)
    else:
        # The matrix of a few classes is too small to be worth rounding.
        form = weights.head if head.kind == "masked-lm" else Full()
        form.linear(graph, x, "head", head.output)
    graph.nodes[-1].output[0] = graph.output("logits", FLOAT, [rows, classes])


def _step(graph: Graph, x: str, step: Step, weights: Weights) -> str:
    x = _activated(graph, weights.layers.linear(graph, x, "step", step.linear), step.activation)
    return x if step.norm is None else _norm(graph, x, "step.norm", step.norm)


def _norm(graph: Graph, x: str, name: str, norm: Norm) -> str:
    inputs = [x, graph.weight(f"{name}.weight", norm.weight), graph.weight(f"{name}.bias", norm.bias)]
    return graph.node("LayerNormalization", inputs, f"{name}.out", axis=-1, epsilon=norm.epsilon)


def _activated(graph: Graph, x: str, activation: str) -> str:
    """By transformers' name for it."""
    out = f"{x}.activated"
    if activation in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"):
        return graph.node("Gelu", [x], out, approximate="tanh")
    operators = {"gelu": "Gelu", "relu": "Relu", "tanh": "Tanh"}
    if activation not in operators:
        raise Unsupported(f"activation {activation!r} is not supported: {', '.join(operators)}, gelu_new, gelu_pytorch_tanh, gelu_fast are")
    return graph.node(operators[activation], [x], out)
