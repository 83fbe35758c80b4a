"""Writes an anatomy as two graphs.

The encoder's reads inputs of one length, without padding, and gives each decoder layer's keys and values of them. The step's takes one
token in each of several rows of two caches that stay in place: that of the text so far, and that of the input. GroupQueryAttention reads
both. To the input's it would add a token at each step: that one stands behind the input, is written over at each step, and a bias keeps
it from being seen, so that nothing of the input's cache is ever copied.
"""

from __future__ import annotations

import numpy
import torch
from decoder.anatomy import Norm
from decoder.graph import Graph
from decoder.packed import FLOAT, INT32, INT64, _feed_forward as feed_forward, _norm as norm
from decoder.weights import Full, Weights

from .anatomy import Anatomy, Block, CrossAttention, SelfAttention, Stack

# Added to the score of a place that is not to be seen: its weight is 0 beside any other.
UNSEEN = float(numpy.finfo("f4").min)


def encoder_graph(anatomy: Anatomy, weights: Weights) -> Graph:
    """`input_ids [b, s]`, rows of one length → for each decoder layer `present.N.encoder.{key,value} [b, heads, s, head size]`."""
    graph, stack = Graph(), anatomy.encoder
    graph.input("input_ids", INT64, ["b", "s"])
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    length = graph.node("Squeeze", [length], "length.scalar")
    places = graph.node("Range", [_scalar(graph, "places.begin", 0), length, _scalar(graph, "places.step", 1)], "places")

    x = _embedded(graph, anatomy, stack, places)
    bias = None if stack.distances is None else _encoder_bias(graph, stack.distances, anatomy.context, places)
    for index, block in enumerate(stack.blocks):
        x = _encoder_block(graph, x, f"encoder.{index}", block, anatomy, bias, weights)
    if stack.norm is not None:
        x = norm(graph, x, "encoder.norm", stack.norm)
    for index, block in enumerate(anatomy.decoder.blocks):
        _cross_keys_and_values(graph, x, index, block.cross, anatomy, weights)
    return graph


def step_graph(anatomy: Anatomy, weights: Weights) -> Graph:
    """`input_ids [b]` behind `seqlens_k [b]` tokens of each text, beside inputs of `encoder_seqlens_k [b]` tokens → `logits [b, v]`."""
    graph, stack = Graph(), anatomy.decoder
    graph.input("input_ids", INT64, ["b"])
    graph.input("seqlens_k", INT32, ["b"])
    graph.input("total_sequence_length", INT32, [])
    graph.input("encoder_seqlens_k", INT32, ["b"])
    graph.input("encoder_total_sequence_length", INT32, [])
    graph.output("logits", FLOAT, ["b", anatomy.vocabulary])
    inner = stack.heads * anatomy.head_size
    graph.constant("token", numpy.array([-1, 1, inner], "i8"))
    graph.constant("row", numpy.array([-1, inner], "i8"))
    graph.constant("qkv_sizes", numpy.array([inner] * 3, "i8"))

    x = _embedded(graph, anatomy, stack, "seqlens_k")
    bias = "" if stack.distances is None else _step_bias(graph, stack.distances)
    unseen = _unseen(graph)
    nothing = _nothing(graph, inner)
    for index, block in enumerate(stack.blocks):
        x = _decoder_block(graph, x, index, block, anatomy, (bias, unseen, nothing), weights)
    if stack.norm is not None:
        x = norm(graph, x, "decoder.norm", stack.norm)
    _logits(graph, x, anatomy, weights)
    return graph


def _encoder_block(graph: Graph, x: str, name: str, block: Block, anatomy: Anatomy, bias: str | None, weights: Weights) -> str:
    def attended(x: str) -> str:
        return _encoder_attention(graph, x, name, block.attention, anatomy, bias, weights)

    def fed(x: str) -> str:
        return feed_forward(graph, x, name, block.feed_forward, weights)

    x = _with(graph, x, f"{name}.attention", block.attention_norm, anatomy, attended)
    return _with(graph, x, f"{name}.feed_forward", block.feed_forward_norm, anatomy, fed)


def _decoder_block(
    graph: Graph, x: str, index: int, block: Block, anatomy: Anatomy, shared: tuple[str, str, str], weights: Weights
) -> str:
    """`shared`: what all layers' attention has in common: the bias over the text, that over the input, and what is written behind it."""
    name, (bias, unseen, nothing) = f"decoder.{index}", shared

    def attended(x: str) -> str:
        return _step_attention(graph, x, index, block.attention, anatomy, bias, weights)

    def crossed(x: str) -> str:
        return _step_cross(graph, x, index, block.cross, anatomy, unseen, nothing, weights)

    def fed(x: str) -> str:
        return feed_forward(graph, x, name, block.feed_forward, weights)

    x = _with(graph, x, f"{name}.attention", block.attention_norm, anatomy, attended)
    x = _with(graph, x, f"{name}.cross", block.cross_norm, anatomy, crossed)
    return _with(graph, x, f"{name}.feed_forward", block.feed_forward_norm, anatomy, fed)


def _with(graph: Graph, x: str, name: str, module: Norm, anatomy: Anatomy, part) -> str:
    """What a part of a layer adds, with its norm where the family has it."""
    if anatomy.norms_after:
        return norm(graph, graph.node("Add", [x, part(x)], f"{name}.added"), f"{name}_norm", module)
    return graph.node("Add", [x, part(norm(graph, x, f"{name}_norm", module))], f"{name}.added")


def _embedded(graph: Graph, anatomy: Anatomy, stack: Stack, places: str) -> str:
    x = graph.node("Gather", [graph.weight("embedding", anatomy.embedding), "input_ids"], "embedded", axis=0)
    if anatomy.embedding_scale is not None:
        x = graph.node("Mul", [x, graph.weight("embedding_scale", torch.tensor(anatomy.embedding_scale))], "embedded.scaled")
    if stack.positions is not None:
        place = graph.node("Gather", [graph.weight("positions", stack.positions), places], "placed", axis=0)
        x = graph.node("Add", [x, place], "embedded.placed")
    return x if stack.embedding_norm is None else norm(graph, x, "embedding_norm", stack.embedding_norm)


def _encoder_bias(graph: Graph, distances: torch.Tensor, context: int, places: str) -> str:
    """`[1, heads, s, s]`: by how far each key stands behind each query."""
    keys = graph.node("Unsqueeze", [places, graph.constant("first", numpy.array([0], "i8"))], "places.keys")
    queries = graph.node("Unsqueeze", [places, graph.constant("second", numpy.array([1], "i8"))], "places.queries")
    index = graph.node("Sub", [keys, queries], "relative")
    index = graph.node("Add", [index, _scalar(graph, "furthest", context - 1)], "relative.index")
    biases = graph.node("Gather", [graph.weight("distances", distances), index], "biases", axis=0)
    biases = graph.node("Transpose", [biases], "biases.heads", perm=[2, 0, 1])
    return graph.node("Unsqueeze", [biases, "first"], "attention_bias")


def _step_bias(graph: Graph, distances: torch.Tensor) -> str:
    """`[b, heads, 1, total]`: by how far each place of a row's text stands before its new token. Places behind it are not read."""
    graph.constant("apart", numpy.array([1], "i8"))
    back = graph.node("Sub", [graph.node("Unsqueeze", ["seqlens_k", "apart"], "newest"), _range(graph, "total_sequence_length")], "back")
    back = graph.node("Max", [back, graph.constant("none", numpy.array(0, "i4"))], "back.index")
    biases = graph.node("Gather", [graph.weight("distances", distances), back], "biases", axis=0)
    biases = graph.node("Transpose", [biases], "biases.heads", perm=[0, 2, 1])
    return graph.node("Unsqueeze", [biases, graph.constant("third", numpy.array([2], "i8"))], "attention_bias")


def _unseen(graph: Graph) -> str:
    """`[b, 1, 1, total]`: the lowest number from the place behind each row's input on."""
    graph.constant("apart", numpy.array([1], "i8"))
    lengths = graph.node("Unsqueeze", ["encoder_seqlens_k", "apart"], "lengths")
    behind = graph.node("GreaterOrEqual", [_range(graph, "encoder_total_sequence_length"), lengths], "behind")
    lowest, seen = graph.constant("lowest", numpy.array(UNSEEN, "f4")), graph.constant("seen", numpy.array(0, "f4"))
    bias = graph.node("Where", [behind, lowest, seen], "unseen")
    return graph.node("Unsqueeze", [bias, graph.constant("second_and_third", numpy.array([1, 2], "i8"))], "encoder_attention_bias")


def _range(graph: Graph, length: str) -> str:
    """`[length]`, from 0 on."""
    start, step = graph.constant("range.begin", numpy.array(0, "i4")), graph.constant("range.step", numpy.array(1, "i4"))
    return graph.node("Range", [start, length, step], f"{length}.places")


def _nothing(graph: Graph, width: int) -> str:
    """`[b, 1, width]` of zeros: what is written behind the inputs."""
    rows = graph.node("Shape", ["input_ids"], "rows")
    shape = graph.node("Concat", [rows, graph.constant("one_token", numpy.array([1, width], "i8"))], "nothing.shape", axis=0)
    return graph.node("Expand", [graph.constant("nought", numpy.array(0, "f4")), shape], "nothing")


def _encoder_attention(
    graph: Graph, x: str, name: str, attention: SelfAttention, anatomy: Anatomy, bias: str | None, weights: Weights
) -> str:
    inner = anatomy.encoder.heads * anatomy.head_size
    graph.constant("qkv_sizes", numpy.array([inner] * 3, "i8"))
    qkv = weights.layers.linear(graph, x, f"{name}.qkv", attention.qkv)
    parts = graph.node("Split", [qkv, "qkv_sizes"], [f"{name}.{part}" for part in ("query", "key", "value")], axis=-1)
    inputs = [*parts] if bias is None else [*parts, "", "", bias]
    attributes = {"num_heads": anatomy.encoder.heads, "scale": anatomy.scale}
    attended = graph.node("MultiHeadAttention", inputs, f"{name}.attended", "com.microsoft", **attributes)
    return weights.layers.linear(graph, attended, f"{name}.projection", attention.projection)


def _cross_keys_and_values(graph: Graph, x: str, index: int, cross: CrossAttention, anatomy: Anatomy, weights: Weights) -> None:
    heads, size = anatomy.decoder.heads, anatomy.head_size
    both = weights.layers.linear(graph, x, f"decoder.{index}.cross", cross.key_value)
    sizes = graph.constant("key_and_value_sizes", numpy.array([heads * size] * 2, "i8"))
    parts = graph.node("Split", [both, sizes], [f"decoder.{index}.cross.{part}" for part in ("key", "value")], axis=-1)
    for part, name in zip(parts, ("key", "value")):
        apart = graph.node("Reshape", [part, graph.constant("heads", numpy.array([0, 0, heads, size], "i8"))], f"{part}.heads")
        present = graph.output(f"present.{index}.encoder.{name}", FLOAT, ["b", heads, "s", size])
        graph.node("Transpose", [apart], present, perm=[0, 2, 1, 3])


def _step_attention(graph: Graph, x: str, index: int, attention: SelfAttention, anatomy: Anatomy, bias: str, weights: Weights) -> str:
    name = f"decoder.{index}"
    qkv = weights.layers.linear(graph, x, f"{name}.qkv", attention.qkv)
    parts = graph.node("Split", [qkv, "qkv_sizes"], [f"{name}.{part}" for part in ("query", "key", "value")], axis=-1)
    tokens = [graph.node("Reshape", [part, "token"], f"{part}.token") for part in parts]
    flat = _cached(graph, tokens, f"{index}.decoder", ["seqlens_k", "total_sequence_length"], bias, anatomy)
    return weights.layers.linear(graph, flat, f"{name}.projection", attention.projection)


def _step_cross(
    graph: Graph, x: str, index: int, cross: CrossAttention, anatomy: Anatomy, unseen: str, nothing: str, weights: Weights
) -> str:
    name = f"decoder.{index}.cross"
    query = weights.layers.linear(graph, x, f"{name}.query", cross.query)
    token = graph.node("Reshape", [query, "token"], f"{name}.query.token")
    lengths = ["encoder_seqlens_k", "encoder_total_sequence_length"]
    flat = _cached(graph, [token, nothing, nothing], f"{index}.encoder", lengths, unseen, anatomy)
    return weights.layers.linear(graph, flat, f"{name}.projection", cross.projection)


def _cached(graph: Graph, tokens: list[str], cache: str, lengths: list[str], bias: str, anatomy: Anatomy) -> str:
    """Attention of one token of each row over a cache, `[b, heads * head size]`."""
    heads = anatomy.decoder.heads
    shape = ["b", heads, f"{cache.partition('.')[2]}_capacity", anatomy.head_size]
    past = [graph.input(f"past_key_values.{cache}.{part}", FLOAT, shape) for part in ("key", "value")]
    present = [graph.output(f"present.{cache}.{part}", FLOAT, shape) for part in ("key", "value")]
    attributes = {"num_heads": heads, "kv_num_heads": heads, "scale": anatomy.scale, "do_rotary": 0}
    inputs = [*tokens, *past, *lengths, *(["", "", "", bias] if bias else [])]
    attended, *_ = graph.node("GroupQueryAttention", inputs, [f"{cache}.attended", *present], "com.microsoft", **attributes)
    return graph.node("Reshape", [attended, "row"], f"{cache}.attended.row")


def _logits(graph: Graph, x: str, anatomy: Anatomy, weights: Weights) -> None:
    if anatomy.tied and isinstance(weights.head, Full):
        # One copy serves both ends.
        bias = [] if anatomy.head.bias is None else [graph.weight("head.bias", anatomy.head.bias)]
        graph.node("Gemm", [x, "embedding", *bias], "head.out", transB=1)
    else:
        weights.head.linear(graph, x, "head", anatomy.head)
    graph.nodes[-1].output[0] = "logits"


def _scalar(graph: Graph, name: str, value: int) -> str:
    return graph.constant(name, numpy.array(value, "i8"))
