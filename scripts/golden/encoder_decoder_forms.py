"""A checkpoint in the forms that Optimum writes an encoder–decoder in, which transformers.js reads too."""

from __future__ import annotations

import pathlib

import onnx
import torch
import transformers
from decoder_forms import strip
from onnx import TensorProto, helper

FIRST, LATER, MERGED = "decoder_model.onnx", "decoder_with_past_model.onnx", "decoder_model_merged.onnx"
# All different, and none 0 or 1, which torch.export would take for constants.
BATCH, INPUT, PAST, NEW = 2, 5, 3, 4


def pair(checkpoint: str, folder: pathlib.Path) -> None:
    """`encoder_model.onnx`, `decoder_model.onnx` for the first run, `decoder_with_past_model.onnx` for those after it."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    heads, layers = model.config.num_attention_heads, len(_layers(model))
    size = getattr(model.config, "d_kv", model.config.d_model // heads)
    b, s, p, t = (torch.export.Dim(name) for name in ("batch_size", "encoder_sequence_length", "past_sequence_length", "sequence_length"))
    ids, mask = torch.zeros(BATCH, INPUT, dtype=torch.int64), torch.ones(BATCH, INPUT, dtype=torch.int64)
    names = [f"{layer}.{part}.{name}" for layer in range(layers) for part in ("decoder", "encoder") for name in ("key", "value")]
    hidden = torch.zeros(BATCH, INPUT, model.config.d_model)

    _export(Encoder(model), (ids, mask), folder / "encoder_model.onnx", ["input_ids", "attention_mask"], ["last_hidden_state"],
            ({0: b, 1: s}, {0: b, 1: s}))  # fmt: skip
    new = torch.zeros(BATCH, NEW, dtype=torch.int64)
    _export(First(model), (mask, new, hidden), folder / FIRST, ["encoder_attention_mask", "input_ids", "encoder_hidden_states"],
            ["logits", *(f"present.{name}" for name in names)], ({0: b, 1: s}, {0: b, 1: t}, {0: b, 1: s}))  # fmt: skip
    past = [torch.zeros(BATCH, heads, PAST if ".decoder." in name else INPUT, size) for name in names]
    own = [name for name in names if ".decoder." in name]
    _export(Later(model), (mask, new[:, :1].contiguous(), past), folder / LATER,
            ["encoder_attention_mask", "input_ids", *(f"past_key_values.{name}" for name in names)],
            ["logits", *(f"present.{name}" for name in own)],
            ({0: b, 1: s}, {0: b}, [{0: b, 2: p if ".decoder." in name else s} for name in names]))  # fmt: skip
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)


def merged(checkpoint: str, folder: pathlib.Path) -> None:
    """`encoder_model.onnx`, and one decoder that takes the one or the other way: as `use_cache_branch` says."""
    pair(checkpoint, folder)
    first, later = onnx.load(folder / FIRST), onnx.load(folder / LATER)
    inputs = {value.name: value for graph in (first.graph, later.graph) for value in graph.input}
    outputs = list(first.graph.output)
    for output in outputs:
        if output.name not in {value.name for value in later.graph.output}:
            # The later runs give the input's keys and values as tensors of nothing.
            shape = [0, output.type.tensor_type.shape.dim[1].dim_value, 1, output.type.tensor_type.shape.dim[3].dim_value]
            value = helper.make_tensor(output.name, TensorProto.FLOAT, shape, [])
            later.graph.node.append(helper.make_node("Constant", [], [output.name], value=value))
            later.graph.output.append(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))
    shared = _shared(first.graph, later.graph)
    order = {value.name: index for index, value in enumerate(outputs)}
    branches = []
    for model in (later, first):
        graph = model.graph
        sorted_outputs = sorted(graph.output, key=lambda value: order[value.name])
        graph.ClearField("input")
        graph.ClearField("output")
        graph.output.extend(sorted_outputs)
        branches.append(graph)
    ways = {"then_branch": branches[0], "else_branch": branches[1]}
    choice = helper.make_node("If", ["use_cache_branch"], [value.name for value in outputs], **ways)
    values = [*inputs.values(), helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])]
    graph = helper.make_graph([choice], "merged", values, [_open(output) for output in outputs], shared)
    opsets = {opset.domain: opset for model in (first, later) for opset in model.opset_import}
    onnx.save(helper.make_model(graph, opset_imports=list(opsets.values()), ir_version=10), folder / MERGED)
    for name in (FIRST, LATER):
        (folder / name).unlink()


def _shared(first: onnx.GraphProto, later: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Takes the weights that both have out of them: both see those of the graph around them."""
    weights = {weight.name: weight for weight in first.initializer}
    both = [weight for weight in later.initializer if weights.get(weight.name) == weight]
    names = {weight.name for weight in both}
    for graph in (first, later):
        own = [weight for weight in graph.initializer if weight.name not in names]
        graph.ClearField("initializer")
        graph.initializer.extend(own)
    return both


def _open(output: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The same output of any lengths: the two ways have other ones."""
    dims = output.type.tensor_type.shape.dim
    shape = [dim.dim_value if index in (1, 3) and len(dims) == 4 else None for index, dim in enumerate(dims)]
    if len(dims) == 3:
        shape[2] = dims[2].dim_value
    return helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape)


def _layers(model):
    decoder = model.get_decoder()
    return decoder.block if hasattr(decoder, "block") else decoder.layers


def _export(module, arguments: tuple, path: pathlib.Path, inputs: list[str], outputs: list[str], shapes: tuple) -> None:
    torch.onnx.export(
        module.eval(), arguments, path, dynamo=True, opset_version=18, external_data=False, verbose=False,
        input_names=inputs, output_names=outputs, dynamic_shapes=shapes,
    )  # fmt: skip
    strip(path)


class Encoder(torch.nn.Module):
    """Ids → the last hidden state."""

    def __init__(self, model):
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids, attention_mask):
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class First(torch.nn.Module):
    """The first run: nothing is kept yet."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, encoder_attention_mask, input_ids, encoder_hidden_states):
        cache = transformers.EncoderDecoderCache(transformers.DynamicCache(), transformers.DynamicCache())
        return run(self.model, encoder_attention_mask, input_ids, encoder_hidden_states, cache, crosses=True)


class Later(torch.nn.Module):
    """The runs after it: the text's keys and values come in and go out longer, the input's come in."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, encoder_attention_mask, input_ids, past):
        own, cross = transformers.DynamicCache(), transformers.DynamicCache()
        for layer in range(len(past) // 4):
            own.update(past[4 * layer], past[4 * layer + 1], layer)
            cross.update(past[4 * layer + 2], past[4 * layer + 3], layer)
        cache = transformers.EncoderDecoderCache(own, cross)
        # Nothing is read of it but its shape: the keys and values are there.
        hidden = torch.zeros(past[2].shape[0], past[2].shape[2], self.model.config.d_model)
        return run(self.model, encoder_attention_mask, input_ids, hidden, cache, crosses=False)


def run(model, mask, ids, hidden, cache, crosses: bool):
    output = model(
        encoder_outputs=(hidden,), attention_mask=mask, decoder_input_ids=ids, cache=cache, use_cache=True,
    )  # fmt: skip
    cache = output.cache if "cache" in output else output.past_key_values
    presents = []
    for own, cross in zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers):
        presents += [own.keys, own.values, *([cross.keys, cross.values] if crosses else [])]
    return output.logits, *presents


