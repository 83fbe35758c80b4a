"""An ONNX graph under construction, and how it is saved."""

from __future__ import annotations

import pathlib

import numpy
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

# Beyond this the weights go to a file of their own, which a runtime maps into memory and does not read: of an embedding just the rows
# that are looked up take memory. A protobuf message could hold 2 GB.
INLINE_BYTES = 64_000_000
# Below this a tensor stays in the graph: shape inference needs the small ones there.
SMALL_BYTES = 1024
# Offsets that a runtime can map into memory.
ALIGNMENT = 4096


class Graph:
    """Nodes, weights, inputs and outputs, added one by one. Each node is named after its first output. Numbers that are not whole have
    32 bits, or 16 where `half`."""

    def __init__(self, half: bool = False):
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, numpy.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: list) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: list) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, name: str, value: numpy.ndarray) -> str:
        self.weights[name] = value
        return name

    @property
    def number(self) -> int:
        """The type of its numbers."""
        return TensorProto.FLOAT16 if self.half else TensorProto.FLOAT

    def weight(self, name: str, parameter: torch.Tensor) -> str:
        return self.constant(name, self.rounded(parameter.detach().float().numpy()))

    def rounded(self, values: numpy.ndarray) -> numpy.ndarray:
        """Values in the graph's own type."""
        return numpy.ascontiguousarray(values, "f2" if self.half else "f4")

    def node(self, operator: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes):
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(operator, inputs, names, name=names[0], domain=domain, **attributes))
        return outputs

    def save(self, path: pathlib.Path) -> None:
        """Writes the graph, with large weights beside it in `NAME.onnx.data`."""
        beside = path.with_name(path.name + ".data")
        beside.unlink(missing_ok=True)
        if sum(value.nbytes for value in self.weights.values()) > INLINE_BYTES:
            with beside.open("wb") as file:
                initializers = [_external(name, value, file, beside.name) for name, value in self.weights.items()]
        else:
            initializers = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "decoder", self.inputs, self.outputs, initializers)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def _external(name: str, value: numpy.ndarray, file, location: str) -> TensorProto:
    """A tensor whose bytes are appended to `file`; written at once, so that no second copy of all weights is held."""
    if value.nbytes < SMALL_BYTES:
        return numpy_helper.from_array(value, name)
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=value.shape, data_location=TensorProto.EXTERNAL)
    for key, entry in (("location", location), ("offset", file.tell()), ("length", value.nbytes)):
        tensor.external_data.add(key=key, value=str(entry))
    value.tofile(file)
    return tensor
