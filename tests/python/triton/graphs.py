"""Small graphs, made here, whose answers are known, and the folders that a repository keeps them in."""

from __future__ import annotations

import pathlib

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

# The protocol's types as ONNX has them; BYTES are strings.
TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def graph(nodes: list, inputs: list[tuple], outputs: list[tuple], constants: dict[str, np.ndarray] | None = None) -> bytes:
    """A model's file; inputs and outputs are (name, type, shape)."""
    infos = lambda tensors: [helper.make_tensor_value_info(*tensor) for tensor in tensors]  # noqa: E731
    held = [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()]
    made = helper.make_graph(nodes, "graph", infos(inputs), infos(outputs), held)
    model: ModelProto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def identity(datatype: str, row: list = ["n"]) -> bytes:  # noqa: B006
    """Gives `x` back as `y`; its first dimension is the batch."""
    kind, shape = TYPES[datatype], ["batch", *row]
    return graph([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])


def adds(amount: float) -> bytes:
    """y = x + amount, so that an answer tells which graph gave it."""
    tensors = [("x", TensorProto.FLOAT, ["batch", 1])], [("y", TensorProto.FLOAT, ["batch", 1])]
    return graph([helper.make_node("Add", ["x", "amount"], ["y"])], *tensors, {"amount": np.array([amount], np.float32)})


def sum_and_difference() -> bytes:
    """sum = a + b, difference = a - b, over rows of 3."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    tensors = lambda *names: [(name, TensorProto.FLOAT, ["batch", 3]) for name in names]  # noqa: E731
    return graph(nodes, tensors("a", "b"), tensors("sum", "difference"))


def doubled_vector() -> bytes:
    """y = x + x for a vector of 4: nothing in it is a batch."""
    return graph([helper.make_node("Add", ["x", "x"], ["y"])], [("x", TensorProto.FLOAT, [4])], [("y", TensorProto.FLOAT, [4])])


def table() -> bytes:
    """value = [10, 20, 30, 40][index]: it cannot run for an index that is out of range."""
    tensors = [("index", TensorProto.INT64, ["batch", 1])], [("value", TensorProto.INT64, ["batch", 1])]
    return graph([helper.make_node("Gather", ["table", "index"], ["value"])], *tensors, {"table": np.array([10, 20, 30, 40], np.int64)})


def write(repository: pathlib.Path, name: str, model: bytes, version: int = 1) -> None:
    """Puts a graph where the repository looks for a model's version."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
