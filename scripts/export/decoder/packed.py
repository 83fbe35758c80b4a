"""Writes an anatomy as a packed graph.

The linear layers see only the run's real tokens, one after the other. GroupQueryAttention sees rows padded to a common width, one for
each slot of a key–value cache that stays in place: `pad_index` brings the tokens there, `unpad_index` takes them back.
"""

from __future__ import annotations

import numpy
import torch
from onnx import TensorProto

from .anatomy import Anatomy, Attention, Block, FeedForward, Norm, Unsupported
from .cache import Scales
from .graph import Graph
from .weights import Full, Weights

FLOAT, INT8, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64


def packed_graph(anatomy: Anatomy, weights: Weights, ragged: bool = True, half: bool = False, scales: Scales | None = None) -> Graph:
    """`ragged`: rows of one run may have different numbers of new tokens (`query_seqlens`, ONNX Runtime 1.32 on the CPU). `half`: numbers
    of 16 bits, keys and values too, as attention on a GPU takes them; the logits have 32 all the same. `scales`: keys and values are kept
    in 8 bits (ONNX Runtime 1.32 on the CPU)."""
    graph = Graph(half)
    graph.input("input_ids", INT64, ["t"])
    if anatomy.positions is not None:
        graph.input("position_ids", INT64, ["t"])
    graph.input("pad_index", INT64, ["b", "s"])
    graph.input("unpad_index", INT64, ["t"])
    graph.input("logit_index", INT64, ["r"])
    graph.input("seqlens_k", INT32, ["b"])
    graph.input("total_sequence_length", INT32, [])
    if ragged:
        graph.input("query_seqlens", INT32, ["b"])
    graph.output("logits", FLOAT, ["r", anatomy.vocabulary])

    query_width, kv_width = anatomy.heads * anatomy.head_size, anatomy.kv_heads * anatomy.head_size
    graph.constant("qkv_sizes", numpy.array([query_width, kv_width, kv_width], "i8"))
    graph.constant("rows", numpy.array([-1, query_width], "i8"))
    if anatomy.rotary is not None:
        graph.weight("cos", anatomy.rotary[0])
        graph.weight("sin", anatomy.rotary[1])

    x = _embedded(graph, anatomy, weights)
    for index, block in enumerate(anatomy.blocks):
        x = _block(graph, x, index, block, anatomy, weights, ragged, scales)
    _logits(graph, x, anatomy, weights)
    return graph


def _embedded(graph: Graph, anatomy: Anatomy, weights: Weights) -> str:
    shared = anatomy.tied and weights.embedding is weights.head
    x = weights.embedding.rows(graph, "input_ids", "head" if shared else "embedding", anatomy.embedding)
    if anatomy.embedding_scale is not None:
        scale = graph.weight("embedding_scale", torch.tensor(anatomy.embedding_scale))
        x = graph.node("Mul", [x, scale], "embedded.scaled")
    if anatomy.positions is not None:
        place = graph.node("Gather", [graph.weight("positions", anatomy.positions), "position_ids"], "placed", axis=0)
        x = graph.node("Add", [x, place], "embedded.placed")
    return x


def _block(
    graph: Graph, x: str, index: int, block: Block, anatomy: Anatomy, weights: Weights, ragged: bool, scales: Scales | None
) -> str:
    name = f"layer.{index}"
    normed = _norm(graph, x, f"{name}.attention_norm", block.attention_norm)
    attended = _attention(graph, normed, index, block.attention, anatomy, weights, ragged, scales)
    if block.attention_post_norm is not None:
        attended = _norm(graph, attended, f"{name}.attention_post_norm", block.attention_post_norm)
    with_attention = graph.node("Add", [x, attended], f"{name}.with_attention")
    if block.feed_forward_norm is not None:
        normed = _norm(graph, x if block.parallel else with_attention, f"{name}.feed_forward_norm", block.feed_forward_norm)
    fed = _feed_forward(graph, normed, name, block.feed_forward, weights)
    if block.feed_forward_post_norm is not None:
        fed = _norm(graph, fed, f"{name}.feed_forward_post_norm", block.feed_forward_post_norm)
    return graph.node("Add", [with_attention, fed], f"{name}.with_feed_forward")


def _attention(
    graph: Graph, x: str, index: int, attention: Attention, anatomy: Anatomy, weights: Weights, ragged: bool, scales: Scales | None
) -> str:
    name = f"layer.{index}"
    qkv = weights.layers.linear(graph, x, f"{name}.qkv", attention.qkv)
    query, key, value = graph.node("Split", [qkv, "qkv_sizes"], [f"{name}.{part}" for part in ("query", "key", "value")], axis=-1)
    if attention.query_norm is not None:
        query = _norm_of_heads(graph, query, attention.query_norm, anatomy.heads, anatomy.head_size)
    if attention.key_norm is not None:
        key = _norm_of_heads(graph, key, attention.key_norm, anatomy.kv_heads, anatomy.head_size)
    padded = [graph.node("Gather", [part, "pad_index"], f"{part}.padded", axis=0) for part in (query, key, value)]

    shape = ["b", anatomy.kv_heads, "capacity", anatomy.head_size]
    kept = graph.number if scales is None else INT8
    past = [graph.input(f"past_key_values.{index}.{part}", kept, shape) for part in ("key", "value")]
    present = [graph.output(f"present.{index}.{part}", kept, shape) for part in ("key", "value")]
    tables = ["cos", "sin"] if anatomy.rotary is not None else []
    inputs = [*padded, *past, "seqlens_k", "total_sequence_length", *tables]
    attributes = {"num_heads": anatomy.heads, "kv_num_heads": anatomy.kv_heads, "scale": attention.scale}
    attributes |= {"do_rotary": int(anatomy.rotary is not None), "rotary_interleaved": 0}
    # Inputs at a fixed place; those between are optional and unused.
    if scales is not None:
        inputs += [""] * (12 - len(inputs))
        inputs += [graph.constant(f"{name}.{part}_scale", scales[f"{index}.{part}"]) for part in ("key", "value")]
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
    if ragged:
        # How many new tokens each slot has.
        inputs += [""] * (16 - len(inputs)) + ["query_seqlens"]
    if attention.window is not None and attention.window < anatomy.context:
        attributes["local_window_size"] = attention.window
    if attention.softcap:
        attributes["softcap"] = attention.softcap
    attended, *_ = graph.node("GroupQueryAttention", inputs, [f"{name}.attended", *present], "com.microsoft", **attributes)

    flat = graph.node("Reshape", [attended, "rows"], f"{name}.attended.flat")
    unpadded = graph.node("Gather", [flat, "unpad_index"], f"{name}.attended.unpadded", axis=0)
    return weights.layers.linear(graph, unpadded, f"{name}.projection", attention.projection)


def _norm_of_heads(graph: Graph, x: str, norm: Norm, heads: int, size: int) -> str:
    """Each head's values are normed by themselves."""
    apart = graph.node("Reshape", [x, graph.constant(f"{x}.shape", numpy.array([-1, heads, size], "i8"))], f"{x}.heads")
    normed = _norm(graph, apart, f"{x}.norm", norm)
    return graph.node("Reshape", [normed, graph.constant(f"{x}.width", numpy.array([-1, heads * size], "i8"))], f"{x}.normed")


def _feed_forward(graph: Graph, x: str, name: str, feed_forward: FeedForward, weights: Weights) -> str:
    up = weights.layers.linear(graph, x, f"{name}.up", feed_forward.up)
    if feed_forward.gated:
        inner = feed_forward.down.weight.shape[1]
        sizes = graph.constant("gate_and_value_sizes", numpy.array([inner, inner], "i8"))
        gate, value = graph.node("Split", [up, sizes], [f"{name}.gate", f"{name}.gated_value"], axis=-1)
        inside = graph.node("Mul", [_activation(graph, gate, feed_forward.activation), value], f"{name}.gated")
    else:
        inside = _activation(graph, up, feed_forward.activation)
    return weights.layers.linear(graph, inside, f"{name}.down", feed_forward.down)


def _activation(graph: Graph, x: str, activation: str) -> str:
    """By transformers' name for it."""
    out = f"{x}.activated"
    if activation in ("silu", "swish"):
        return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{x}.sigmoid")], out)
    if activation in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"):
        return graph.node("Gelu", [x], out, approximate="tanh")
    if activation == "gelu":
        return graph.node("Gelu", [x], out)
    if activation == "relu":
        return graph.node("Relu", [x], out)
    raise Unsupported(f"activation {activation!r} is not supported: silu, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu are")


def _norm(graph: Graph, x: str, name: str, norm: Norm) -> str:
    weight = graph.weight(f"{name}.weight", norm.weight)
    if not norm.centred:
        return graph.node("SimplifiedLayerNormalization", [x, weight], f"{name}.out", axis=-1, epsilon=norm.epsilon)
    bias = [] if norm.bias is None else [graph.weight(f"{name}.bias", norm.bias)]
    return graph.node("LayerNormalization", [x, weight, *bias], f"{name}.out", axis=-1, epsilon=norm.epsilon)


def _logits(graph: Graph, x: str, anatomy: Anatomy, weights: Weights) -> None:
    normed = _norm(graph, x, "norm", anatomy.norm)
    chosen = graph.node("Gather", [normed, "logit_index"], "chosen", axis=0)
    if anatomy.tied and isinstance(weights.head, Full):
        # One copy serves both ends.
        bias = [] if anatomy.head.bias is None else [graph.weight("head.bias", anatomy.head.bias)]
        logits = graph.node("Gemm", [chosen, "embedding", *bias], "head.out", transB=1)
    else:
        logits = weights.head.linear(graph, chosen, "head", anatomy.head)
    if anatomy.logit_softcap:
        cap = graph.weight("logit_softcap", torch.tensor(float(anatomy.logit_softcap)))
        squashed = graph.node("Tanh", [graph.node("Div", [logits, cap], "head.divided")], "head.squashed")
        logits = graph.node("Mul", [squashed, cap], "head.capped")
    if graph.half:
        graph.node("Cast", [logits], "head.wide", to=FLOAT)
    graph.nodes[-1].output[0] = "logits"
