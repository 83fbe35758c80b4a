"""Runs a packed graph as a server does: a key–value cache of several slots, written in place."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy
import onnxruntime

from .anatomy import Anatomy


# The types that keys and values have.
KINDS = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int8)": "i1"}


@dataclasses.dataclass
class Row:
    """What one slot does in a run: its new tokens (none where it is idle) and how many it holds already."""

    slot: int
    tokens: list[int]
    past: int = 0


def session(graph: pathlib.Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Two, so that a division of the work that depends on the number of rows would show.
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def feed(rows: list[Row], names: set[str], every: bool = True, width: int = 1) -> dict[str, numpy.ndarray]:
    """The graph's inputs but the cache; those of `names`. `every`: logits of all tokens, else of each row's last. The padded width is at
    least `width`."""
    width = max(width, *(len(row.tokens) for row in rows))
    ids, places, unpad, last = [], [], [], []
    pad = numpy.zeros((len(rows), width), "i8")
    for index, row in enumerate(rows):
        for position, token in enumerate(row.tokens):
            pad[index, position] = len(ids)
            unpad.append(index * width + position)
            places.append(row.past + position)
            ids.append(token)
        if row.tokens:
            last.append(len(ids) - 1)
    totals = [row.past + len(row.tokens) for row in rows]
    inputs = {
        "input_ids": numpy.array(ids, "i8"),
        "position_ids": numpy.array(places, "i8"),
        "pad_index": pad,
        "unpad_index": numpy.array(unpad, "i8"),
        "logit_index": numpy.arange(len(ids), dtype="i8") if every else numpy.array(last, "i8"),
        "seqlens_k": numpy.array([max(total, 1) - 1 for total in totals], "i4"),
        "total_sequence_length": numpy.array(max(width, *totals), "i4"),
        "query_seqlens": numpy.array([len(row.tokens) for row in rows], "i4"),
    }
    return {name: value for name, value in inputs.items() if name in names}


def empty_cache(session: onnxruntime.InferenceSession, anatomy: Anatomy, slots: int, capacity: int) -> dict[str, numpy.ndarray]:
    """Its tensors by the last part of their names: `LAYER.key` and `LAYER.value`."""
    shape, past = (slots, anatomy.kv_heads, capacity, anatomy.head_size), "past_key_values."
    kinds = {tensor.name: KINDS[tensor.type] for tensor in session.get_inputs() if tensor.name.startswith(past)}
    return {name.removeprefix(past): numpy.zeros(shape, kind) for name, kind in kinds.items()}


class Slots:
    """A cache of several slots, all empty at first. A run sees the slots that its rows name, and no others."""

    def __init__(self, session: onnxruntime.InferenceSession, anatomy: Anatomy, slots: int, capacity: int):
        self.session = session
        self.names = {tensor.name for tensor in session.get_inputs()}
        self.cache = empty_cache(session, anatomy, slots, capacity)

    def run(self, rows: list[Row], width: int = 1) -> list[numpy.ndarray]:
        """The logits of each row's new tokens."""
        chosen = [row.slot for row in rows]
        binding = self.session.io_binding()
        for name, value in feed(rows, self.names, width=width).items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        buffers = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value[chosen]) for name, value in self.cache.items()}
        for name, value in buffers.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        for name, value in buffers.items():
            self.cache[name][chosen] = value.numpy()
        logits = binding.get_outputs()[-1].numpy()
        return numpy.split(logits, numpy.cumsum([len(row.tokens) for row in rows])[:-1])
