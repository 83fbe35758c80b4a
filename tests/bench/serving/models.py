#!/usr/bin/env python3
"""The benchmark's models, with random weights: a small MLP VAE and a DCGAN generator, as bare graphs.

    python3 tests/bench/serving/models.py out/bench/serving

Shapes of the field: the VAE has 30 features, 64 hidden units and 8 latents; the generator is DCGAN's (Radford et al.,
2016) for 3x64x64 images from 100 latents with 64 base channels. Tried with onnx 1.23.
"""
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)


def weight(*shape):
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


class Graph:
    def __init__(self):
        self.nodes, self.weights = [], []

    def constant(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind, inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def dense(self, x, wide, narrow):
        return self.node("Gemm", [x, self.constant(weight(wide, narrow)), self.constant(np.zeros(narrow, np.float32))])

    def save(self, folder, inputs, outputs, renamed):
        for value, name in renamed.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "graph", [tensor(*i) for i in inputs], [tensor(*o) for o in outputs], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / "model.onnx")


def vae(folder):
    graph = Graph()
    hidden = graph.node("Relu", [graph.dense("x", 30, 64)])
    mean = graph.dense(hidden, 64, 8)
    back = graph.node("Relu", [graph.dense(mean, 8, 64)])
    reconstruction = graph.dense(back, 64, 30)
    graph.save(folder, [("x", ["n", 30])], [("mean", ["n", 8]), ("reconstruction", ["n", 30])], {mean: "mean", reconstruction: "reconstruction"})


def dcgan(folder):
    graph, channels = Graph(), [100, 512, 256, 128, 64, 3]
    shape = graph.constant(np.array([0, 100, 1, 1], np.int64))
    x = graph.node("Reshape", ["z", shape])
    for index, (wide, narrow) in enumerate(zip(channels, channels[1:])):
        stride, pad = (1, 0) if index == 0 else (2, 1)
        x = graph.node("ConvTranspose", [x, graph.constant(weight(wide, narrow, 4, 4)), graph.constant(np.zeros(narrow, np.float32))],
                       kernel_shape=[4, 4], strides=[stride, stride], pads=[pad] * 4)
        x = graph.node("Tanh" if narrow == 3 else "Relu", [x])
    graph.save(folder, [("z", ["n", 100])], [("image", ["n", 3, 64, 64])], {x: "image"})


if __name__ == "__main__":
    root = Path(sys.argv[1]) / "models"
    vae(root / "vae" / "1")
    dcgan(root / "dcgan" / "1")
