"""The forms in which a graph holds its matrices. A form is a class with two methods: `linear` adds a layer to a graph, `seen` gives
the matrix as that layer multiplies with it, for comparison with torch. Those that can hold an embedding have a third, `rows`."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy
import torch

from .anatomy import Linear, Unsupported
from .graph import Graph


class Form(Protocol):
    def linear(self, graph: Graph, x: str, name: str, linear: Linear) -> str:
        """Adds `x @ weight.T + bias` and returns the name of its output, `NAME.out`."""

    def seen(self, weight: torch.Tensor) -> torch.Tensor:
        """The matrix [out, in] with what the form loses."""


class Table(Form, Protocol):
    def rows(self, graph: Graph, ids: str, name: str, matrix: torch.Tensor) -> str:
        """Looks up the rows of a matrix that `ids` name, and returns the name of the output. What is written as `NAME.…` is what
        `linear` writes under the same name: an embedding that is the head's matrix too is held once."""


class Full:
    """Floating point, of as many bits as the graph's other numbers."""

    def rows(self, graph: Graph, ids: str, name: str, matrix: torch.Tensor) -> str:
        return graph.node("Gather", [graph.weight("embedding", matrix), ids], "embedded", axis=0)

    def linear(self, graph: Graph, x: str, name: str, linear: Linear) -> str:
        weight = graph.weight(f"{name}.weight", linear.weight.T)
        return _biased(graph, linear, name, lambda out: graph.node("MatMul", [x, weight], out))

    def seen(self, weight: torch.Tensor) -> torch.Tensor:
        return weight


class Blockwise:
    """8 or 4 bits a weight and a scale for each block of a row. Activations are rounded to 8 bits within a row and block.

    The block decides whether a row's bits depend on how many rows it shares a run with. ONNX Runtime 1.32 on AVX-512, accuracy level 4:
    they do not with blocks up to 64 (8 bits) and up to 32 (4 bits); they do with larger ones, and with level 0 at any size.
    """

    def __init__(self, bits: int, block: int):
        if bits not in (4, 8):
            raise Unsupported(f"{bits} bits: MatMulNBits has 4 and 8 here")
        if block < 16 or block & (block - 1):
            raise Unsupported(f"block size {block}: must be a power of two, 16 at least")
        self.bits, self.block = bits, block

    def linear(self, graph: Graph, x: str, name: str, linear: Linear) -> str:
        rows, columns = linear.weight.shape
        values, scales = self._quantised(linear.weight)
        if self.bits == 4:
            values = values[..., 0::2] | (values[..., 1::2] << 4)
        inputs = [x, graph.constant(f"{name}.weight", values), graph.constant(f"{name}.scales", graph.rounded(scales))]
        attributes = {"K": columns, "N": rows, "bits": self.bits, "block_size": self._block(columns), "accuracy_level": 4}
        return _biased(graph, linear, name, lambda out: graph.node("MatMulNBits", inputs, out, "com.microsoft", **attributes))

    def rows(self, graph: Graph, ids: str, name: str, matrix: torch.Tensor) -> str:
        if self.bits != 8:
            raise Unsupported(f"an embedding of {self.bits} bits: must be 8")
        values, scales = self._quantised(matrix)
        padded = values.shape[1] * values.shape[2]
        # Lookup and product want other shapes of the same bytes.
        shape = graph.constant("embedding.shape", numpy.array([len(values), padded], "i8"))
        flat = graph.node("Reshape", [graph.constant(f"{name}.weight", values), shape], "embedding.flat")
        inputs = [flat, ids, graph.constant(f"{name}.scales", graph.rounded(scales))]
        attributes = {"bits": 8, "block_size": values.shape[2], "quantize_axis": 1, "gather_axis": 0}
        x = graph.node("GatherBlockQuantized", inputs, "embedded", "com.microsoft", **attributes)
        if padded == matrix.shape[1]:
            return x
        bounds = {"start": 0, "end": matrix.shape[1], "axis": 1}
        cut = [graph.constant(f"embedding.{part}", numpy.array([value], "i8")) for part, value in bounds.items()]
        return graph.node("Slice", [x, *cut], "embedded.cut")

    def seen(self, weight: torch.Tensor) -> torch.Tensor:
        values, scales = self._quantised(weight)
        blocks = (values.astype("f4") - 2 ** (self.bits - 1)) * scales[..., None]
        return torch.from_numpy(blocks.reshape(len(blocks), -1)[:, : weight.shape[1]].copy())

    def _block(self, columns: int) -> int:
        """The largest block up to the wished one that divides a row; failing that the row's last block of 32 is padded."""
        return min(self.block, max(32, columns & -columns))

    def _quantised(self, weight: torch.Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Values [out, blocks, block] around 2^(bits - 1), and scales [out, blocks]."""
        matrix = weight.detach().float().numpy()
        rows, columns = matrix.shape
        block, zero = self._block(columns), 2 ** (self.bits - 1)
        padded = numpy.pad(matrix, ((0, 0), (0, -columns % block))).reshape(rows, -1, block)
        # The value of largest size becomes -zero, whatever its sign: the negative side has one step more.
        furthest = numpy.take_along_axis(padded, abs(padded).argmax(-1, keepdims=True), -1)[..., 0]
        scales = numpy.where(furthest == 0, 1, furthest / -zero).astype("f4")
        values = numpy.clip(numpy.rint(padded / scales[..., None]) + zero, 0, 2 * zero - 1).astype("u1")
        return values, scales


class Rowwise:
    """8 bits a weight with a scale for each output, and 8 bits an activation with a scale for each token (W8A8): products and sums of
    whole numbers, which are exact in any order. So a row's bits never depend on what shares its run, and prompts run about one and a
    half times as fast as with `Blockwise`. Needs a processor whose 8-bit products do not saturate (VNNI, AMX)."""

    def __init__(self) -> None:
        self.rounded: set[str] = set()

    def linear(self, graph: Graph, x: str, name: str, linear: Linear) -> str:
        if x not in self.rounded:
            self.rounded.add(x)
            self._round(graph, x)
        values, scales = _by_output(linear.weight)
        weight = graph.constant(f"{name}.weight", numpy.ascontiguousarray(values.T))
        inputs = [f"{x}.rounded", weight, "step", graph.constant(f"{name}.scales", scales), "zero"]
        product = graph.node("MatMulIntegerToFloat", inputs, f"{name}.scaled", "com.microsoft")
        return _biased(graph, linear, name, lambda out: graph.node("Mul", [product, f"{x}.peak"], out))

    def _round(self, graph: Graph, x: str) -> None:
        graph.constant("step", numpy.array(1 / 127, "f4"))
        graph.constant("zero", numpy.array(128, "u1"))
        graph.constant("last", numpy.array([-1], "i8"))
        size = graph.node("Abs", [x], f"{x}.size")
        peak = graph.node("ReduceMax", [size, "last"], f"{x}.peak", keepdims=1)
        # A row of zeros gives 0 / 0, of which rounding makes some number, which times the peak is zero again.
        share = graph.node("Div", [x, peak], f"{x}.share")
        graph.node("QuantizeLinear", [share, "step", "zero"], f"{x}.rounded")

    def seen(self, weight: torch.Tensor) -> torch.Tensor:
        return _restored(weight)


class Dynamic:
    """8 bits a weight with a scale for each output, and 8 bits an activation with one scale for the whole run: the quickest for many
    sequences, and a row's bits depend on what shares its run."""

    def linear(self, graph: Graph, x: str, name: str, linear: Linear) -> str:
        values, scales = _by_output(linear.weight)
        weight = graph.constant(f"{name}.weight", numpy.ascontiguousarray(values.T))
        inputs = [x, weight, graph.constant(f"{name}.scales", scales)]
        return _biased(graph, linear, name, lambda out: graph.node("DynamicQuantizeMatMul", inputs, out, "com.microsoft"))

    def seen(self, weight: torch.Tensor) -> torch.Tensor:
        return _restored(weight)


def _by_output(weight: torch.Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Values [out, in] of -127 to 127, and scales [out]."""
    matrix = weight.detach().float().numpy()
    peaks = abs(matrix).max(-1)
    scales = numpy.where(peaks == 0, 1, peaks / 127).astype("f4")
    return numpy.rint(matrix / scales[:, None]).astype("i1"), scales


def _restored(weight: torch.Tensor) -> torch.Tensor:
    values, scales = _by_output(weight)
    return torch.from_numpy(values.astype("f4") * scales[:, None])


def _biased(graph: Graph, linear: Linear, name: str, multiply) -> str:
    if linear.bias is None:
        return multiply(f"{name}.out")
    product = multiply(f"{name}.product")
    return graph.node("Add", [product, graph.weight(f"{name}.bias", linear.bias)], f"{name}.out")


@dataclasses.dataclass
class Weights:
    """The forms of the layers' matrices, of the matrix that gives the logits, and of the embedding."""

    layers: Form
    head: Form
    embedding: Table


NAMES = ["fp32", "fp16", "int8", "int4", "w8a8", "w8a8-dynamic"]
# Those that a GPU has kernels for.
ON_GPU = ["fp16", "int8", "int4"]
# Those with which a row's bits depend on what shares its run.
DEPENDENT = ["w8a8-dynamic"]


def named(name: str, block: int = 32) -> Weights:
    """The choice behind `--weights`."""
    # One object for both: where they are one matrix, that is written once.
    byte = Blockwise(8, 32)
    if name in ("fp32", "fp16"):
        return Weights(Full(), Full(), Full())
    if name == "int8":
        return Weights(Blockwise(8, block), byte, byte)
    if name == "int4":
        # The logits are what 4 bits would hurt first.
        return Weights(Blockwise(4, block), byte, byte)
    if name == "w8a8":
        form = Rowwise()
        return Weights(form, form, Full())
    if name == "w8a8-dynamic":
        return Weights(Dynamic(), Dynamic(), Full())
    raise Unsupported(f"weights {name!r}: must be one of {', '.join(NAMES)}")
