"""Exports the trained decoder as a packed graph, checks it against torch, and writes the model folder.

In the packed graph the linear layers see only real tokens; GroupQueryAttention sees padded rows, one for each slot of
a key–value cache that stays in place. One run may hold prompt chunks, single steps and idle slots at once.

    python scripts/train/gpt/export.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import platform
import shutil
import sys

import numpy
import onnx
import onnxruntime
import tokenizers
import torch
from onnx import TensorProto, helper, numpy_helper

import kjv
from model import Decoder, Shape, rotary
from train import END, bits_per_byte

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/train"))
import folder  # noqa: E402


class Graph:
    """An ONNX graph under construction."""

    def __init__(self):
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []

    def constant(self, name: str, value: numpy.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, parameter: torch.Tensor) -> str:
        return self.constant(name, numpy.ascontiguousarray(parameter.detach().float().numpy()))

    def node(self, operator: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes):
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(operator, inputs, names, name=names[0], domain=domain, **attributes))
        return outputs

    def linear(self, x: str, name: str, parameter: torch.Tensor) -> str:
        return self.node("MatMul", [x, self.weight(f"{name}.weight", parameter.T)], f"{name}.out")

    def rms_norm(self, x: str, name: str, parameter: torch.Tensor, epsilon: float) -> str:
        weight = self.weight(f"{name}.weight", parameter)
        return self.node("SimplifiedLayerNormalization", [x, weight], f"{name}.out", axis=-1, epsilon=epsilon)

    def value(self, name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)


def packed_graph(model: Decoder) -> onnx.ModelProto:
    shape, graph = model.shape, Graph()
    kv_width = shape.kv_heads * shape.head_size
    i64, i32, f32 = TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT
    graph.inputs += [
        graph.value("input_ids", i64, ["t"]),
        graph.value("pad_index", i64, ["b", "s"]),
        graph.value("unpad_index", i64, ["t"]),
        graph.value("logit_index", i64, ["r"]),
        graph.value("seqlens_k", i32, ["b"]),
        graph.value("total_sequence_length", i32, []),
        graph.value("query_seqlens", i32, ["b"]),
    ]
    graph.outputs.append(graph.value("logits", f32, ["r", shape.vocabulary]))
    graph.weight("embedding", model.embedding.weight)
    # Twice the context: a padded row may reach beyond it, behind the tokens that it really has.
    cos, sin = rotary(dataclasses.replace(shape, context=2 * shape.context))
    graph.weight("cos", cos)
    graph.weight("sin", sin)
    graph.constant("qkv_sizes", numpy.array([shape.width, kv_width, kv_width], "i8"))
    graph.constant("gate_up_sizes", numpy.array([shape.feed_forward, shape.feed_forward], "i8"))
    graph.constant("rows", numpy.array([-1, shape.width], "i8"))
    x = graph.node("Gather", ["embedding", "input_ids"], "embedded", axis=0)
    for index, block in enumerate(model.blocks):
        name = f"layer.{index}"
        normed = graph.rms_norm(x, f"{name}.attention_norm", block.attention_norm.weight, shape.epsilon)
        qkv = graph.linear(normed, f"{name}.qkv", block.qkv.weight)
        graph.node("Split", [qkv, "qkv_sizes"], [f"{name}.{part}" for part in "qkv"], axis=-1)
        padded = [graph.node("Gather", [f"{name}.{part}", "pad_index"], f"{name}.{part}.padded", axis=0) for part in "qkv"]
        past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        present = [f"present.{index}.{part}" for part in ("key", "value")]
        cache = ["b", shape.kv_heads, "capacity", shape.head_size]
        graph.inputs += [graph.value(tensor, f32, cache) for tensor in past]
        graph.outputs += [graph.value(tensor, f32, cache) for tensor in present]
        # Inputs 9 to 14 are optional and unused; 15 says how many new tokens each slot has.
        inputs = [*padded, *past, "seqlens_k", "total_sequence_length", "cos", "sin", *[""] * 7, "query_seqlens"]
        attended, *_ = graph.node(
            "GroupQueryAttention", inputs, [f"{name}.attended", *present], "com.microsoft",
            num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1, rotary_interleaved=0,
        )  # fmt: skip
        flat = graph.node("Reshape", [attended, "rows"], f"{name}.attended.flat")
        unpadded = graph.node("Gather", [flat, "unpad_index"], f"{name}.attended.unpadded", axis=0)
        projected = graph.linear(unpadded, f"{name}.projection", block.projection.weight)
        x = graph.node("Add", [x, projected], f"{name}.with_attention")
        normed = graph.rms_norm(x, f"{name}.feed_forward_norm", block.feed_forward_norm.weight, shape.epsilon)
        graph.node("Split", [graph.linear(normed, f"{name}.gate_up", block.gate_up.weight), "gate_up_sizes"], [f"{name}.gate", f"{name}.up"], axis=-1)
        sigmoid = graph.node("Sigmoid", [f"{name}.gate"], f"{name}.sigmoid")
        silu = graph.node("Mul", [f"{name}.gate", sigmoid], f"{name}.silu")
        gated = graph.node("Mul", [silu, f"{name}.up"], f"{name}.gated")
        x = graph.node("Add", [x, graph.linear(gated, f"{name}.down", block.down.weight)], f"{name}.with_feed_forward")
    normed = graph.rms_norm(x, "norm", model.norm.weight, shape.epsilon)
    chosen = graph.node("Gather", [normed, "logit_index"], "chosen", axis=0)
    graph.node("Gemm", [chosen, "embedding"], "logits", transB=1)
    proto = helper.make_graph(graph.nodes, "decoder", graph.inputs, graph.outputs, graph.initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=10)


def feed(rows: list[tuple[list[int], int]], all_logits: bool) -> dict[str, numpy.ndarray]:
    """Inputs for one run: for each slot its new tokens and how many it has already.

    Padded rows are at least two wide: at a width of one GroupQueryAttention takes another path, and a step's bits would
    depend on whether a prompt shares its run.
    """
    width = max(2, *(len(tokens) for tokens, _ in rows))
    ids, unpad, last, pad = [], [], [], numpy.zeros((len(rows), width), "i8")
    for slot, (tokens, _) in enumerate(rows):
        for position, token in enumerate(tokens):
            pad[slot, position] = len(ids)
            unpad.append(slot * width + position)
            ids.append(token)
        if tokens:
            last.append(len(ids) - 1)
    totals = [past + len(tokens) for tokens, past in rows]
    return {
        "input_ids": numpy.array(ids, "i8"),
        "pad_index": pad,
        "unpad_index": numpy.array(unpad, "i8"),
        "logit_index": numpy.arange(len(ids)) if all_logits else numpy.array(last, "i8"),
        "seqlens_k": numpy.array([max(total, 1) - 1 for total in totals], "i4"),
        "total_sequence_length": numpy.array(max(width, *totals), "i4"),
        "query_seqlens": numpy.array([len(tokens) for tokens, _ in rows], "i4"),
    }


class Slots:
    """A session with a key–value cache that each run writes into."""

    def __init__(self, session: onnxruntime.InferenceSession, shape: Shape, slots: int, capacity: int):
        self.session = session
        zeros = numpy.zeros((slots, shape.kv_heads, capacity, shape.head_size), "f4")
        names = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
        self.cache = {name: onnxruntime.OrtValue.ortvalue_from_numpy(zeros.copy()) for name in names}

    def run(self, inputs: dict[str, numpy.ndarray]) -> numpy.ndarray:
        binding = self.session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name, value in self.cache.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()


def parity(model: Decoder, session: onnxruntime.InferenceSession) -> float:
    """The largest difference of logits to torch, over prompts in one piece, in chunks and token by token, in slots of
    different length that share runs; and asserts that a row's bits do not depend on its neighbours."""
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(1, model.shape.vocabulary, (n,), generator=draw).tolist() for n in (48, 31, 17)]
    with torch.no_grad():
        truth = [model(torch.tensor([text]))[0].numpy() for text in texts]
    new = lambda: Slots(session, model.shape, 4, 64)  # noqa: E731
    worst = 0.0

    whole = [new().run(feed([(text, 0)] + [([], 0)] * 3, True)) for text in texts]
    for logits, expected in zip(whole, truth):
        worst = max(worst, float(abs(logits - expected).max()))
    # Chunks of three texts and an idle slot, side by side.
    slots, done, chunked = new(), [0, 0, 0], [[], [], []]
    for sizes in ((16, 5, 9), (20, 26, 8), (12, 0, 0)):
        inputs = feed([(text[at : at + n], at) for text, at, n in zip(texts, done, sizes)] + [([], 0)], True)
        rows = numpy.split(slots.run(inputs), numpy.cumsum(sizes)[:-1])
        for part, row in zip(chunked, rows):
            part.append(row)
        done = [at + n for at, n in zip(done, sizes)]
    for index, part in enumerate(chunked):
        assert numpy.array_equal(numpy.concatenate(part), whole[index]), "a chunked prompt has other bits"
    # Token by token behind a prompt: alone, and beside another slot's prompt chunk.
    alone, beside = new(), new()
    alone.run(feed([(texts[0][:16], 0)] + [([], 0)] * 3, False))
    beside.run(feed([(texts[0][:16], 0)] + [([], 0)] * 3, False))
    for at in range(16, 48):
        single = alone.run(feed([([texts[0][at]], at)] + [([], 0)] * 3, False))
        chunk = ([], 31) if at - 16 >= 15 else (texts[1][2 * (at - 16) : 2 * (at - 16) + 2], 2 * (at - 16))
        mixed = beside.run(feed([([texts[0][at]], at), chunk, ([], 0), ([], 0)], False))
        worst = max(worst, float(abs(single[0] - truth[0][at]).max()))
        assert numpy.array_equal(single[0], mixed[0]), f"step {at} has other bits beside a prompt chunk"
    # A run of a single token, and a slot that is nearly full beside a wide chunk.
    lone = new().run(feed([(texts[0][:1], 0)] + [([], 0)] * 3, True))
    worst = max(worst, float(abs(lone[0] - truth[0][0]).max()))
    full = Slots(session, model.shape, 4, 64 + 17)
    full.run(feed([(texts[0], 0)] + [([], 0)] * 3, False))
    inputs = feed([([], 48), (texts[2], 0), ([], 0), ([], 0)], True)
    assert numpy.array_equal(full.run(inputs), whole[2]), "a chunk beside a long slot has other bits"
    return worst


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--checkpoint", default="final.pt")
    options = arguments.parse_args()
    torch.set_num_threads(2)
    trained = options.cache / "gpt-kjv"
    saved = torch.load(trained / options.checkpoint)
    model = Decoder(Shape())
    model.load_state_dict(saved["model"])
    model.eval()
    shape = model.shape
    tokenizer = tokenizers.Tokenizer.from_file(str(trained / "tokenizer.json"))
    _, held_out = kjv.split()

    target = ROOT / "deploy/models/gpt-kjv/1"
    target.mkdir(parents=True, exist_ok=True)
    onnx.save(packed_graph(model), target / "model.onnx")
    session = onnxruntime.InferenceSession(str(target / "model.onnx"), providers=folder.REFERENCE_PROVIDER)
    worst = parity(model, session)
    print(f"largest difference to torch: {worst:.1e}; bits do not depend on chunks or neighbours")
    assert worst < 5e-4, worst

    quality = bits_per_byte(model, tokenizer, held_out)
    print(f"held-out bits per byte: {quality:.4f}")
    shutil.copy(trained / "tokenizer.json", target / "tokenizer.json")
    end = tokenizer.token_to_id(END)
    (target / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": END, "eos_token": END, "model_max_length": shape.context}, indent=2) + "\n")
    (target / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 128}, indent=2) + "\n")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": shape.width, "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary, "max_position_embeddings": shape.context, "rope_theta": shape.rope_theta, "rms_norm_eps": shape.epsilon,
        "hidden_act": "silu", "tie_word_embeddings": True, "bos_token_id": end, "eos_token_id": end,
    }  # fmt: skip
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    held = ROOT / "deploy/datasets/kjv-heldout"
    held.mkdir(parents=True, exist_ok=True)
    (held / "text.txt").write_text("\n\n".join(held_out) + "\n")
    (held / "README.md").write_text(
        "# kjv-heldout\n\nEvery 20th chapter of the King James Bible, which `gpt-kjv` and `restore-case` have never seen: "
        f"{len(held_out)} chapters, one verse a\nline, chapters apart by a blank line. Written by `scripts/train/gpt/export.py`. Public domain.\n"
    )

    prompt = tokenizer.encode("In the beginning God created the heaven and the earth.").ids
    inputs = feed([([end, *prompt], 0), ([end, *prompt[:5]], 0)], False)
    zeros = numpy.zeros((2, shape.kv_heads, 32, shape.head_size), "f4")
    inputs |= {f"past_key_values.{layer}.{part}": zeros for layer in range(shape.layers) for part in ("key", "value")}
    golden = folder.golden_pairs(target / "model.onnx", inputs, ["logits"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    held_out_bytes = sum(len(text.encode()) for text in held_out)
    folder.write(
        target,
        kind="causal-lm",
        description="A small GPT for English in the manner of the King James Bible",
        license="Apache-2.0",
        training_data=["King James Bible (Debian bible-kjv-text), public domain: 19 of every 20 chapters"],
        section={"graph": "model.onnx", "form": "packed"},
        golden=golden,
        golden_tolerance=1e-3,
        card=f"""
# gpt-kjv

A decoder of {parameters / 1e6:.1f} million parameters, trained from nothing on the King James Bible. It continues English in that
manner: the register is right, the sense is not.

* Shape: Llama's, width {shape.width}, {shape.layers} layers, {shape.heads} query and {shape.kv_heads} key–value heads, SwiGLU {shape.feed_forward}, byte-level BPE of
  {shape.vocabulary}, context {shape.context}, fp32.
* Graph: packed (see ARCHITECTURE.md), GroupQueryAttention over key–value buffers in place; logits differ from torch by at
  most {worst:.1e}; a row's bits do not depend on chunks or neighbours.
* Data: Debian's `bible-kjv-text`, public domain; 1,130 chapters, each behind `{END}`. Weights: Apache-2.0.

## Quality

Held-out bits per byte: **{quality:.3f}**, over {len(held_out)} chapters ({held_out_bytes:,} bytes); windows of {shape.context} tokens, stride {shape.context // 2}, each token
predicted once, the first of a chapter from `{END}`.

## Make it, measure it again

    python scripts/train/gpt/train.py --cpu-seconds {saved["spent"]:.0f}      # {saved["step"]} steps of 8 × {shape.context} tokens
    python scripts/train/gpt/export.py                    # exports, checks against torch, prints the figure above
    quintet evaluate text --model gpt-kjv                 # through the service

Seed 0; {saved["spent"]:.0f} CPU seconds of one thread. Python {platform.python_version()}, torch {torch.__version__}, tokenizers {tokenizers.__version__}, ONNX Runtime
{onnxruntime.__version__}.
""",
    )  # fmt: skip
    print(f"perplexity by byte {2 ** quality:.3f}, by nat {math.log(2) * quality:.3f}")


if __name__ == "__main__":
    main()
