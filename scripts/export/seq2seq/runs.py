"""Runs the two graphs as a server does: an input alone through the encoder, then steps of several rows over two caches in place."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy
import onnxruntime
from decoder.runs import session

from .anatomy import Anatomy

# The graphs' files.
ENCODER, DECODER = "encoder_model.onnx", "decoder_model.onnx"


@dataclasses.dataclass
class Row:
    """What one slot does in a step: its token, how many its text holds already, and how many its input has."""

    slot: int
    token: int
    past: int
    input: int


def feed(rows: list[Row]) -> dict[str, numpy.ndarray]:
    """The step's inputs but the caches."""
    return {
        "input_ids": numpy.array([row.token for row in rows], "i8"),
        "seqlens_k": numpy.array([row.past for row in rows], "i4"),
        "total_sequence_length": numpy.array(max(row.past for row in rows) + 1, "i4"),
        "encoder_seqlens_k": numpy.array([row.input for row in rows], "i4"),
        "encoder_total_sequence_length": numpy.array(max(row.input for row in rows) + 1, "i4"),
    }


def empty_caches(anatomy: Anatomy, slots: int, text: int, input: int) -> dict[str, numpy.ndarray]:
    """Room for texts of so many tokens, and for inputs of so many and the one behind them."""
    made = {}
    for layer in range(len(anatomy.decoder.blocks)):
        for part, capacity in (("decoder", text), ("encoder", input + 1)):
            for name in ("key", "value"):
                made[f"{layer}.{part}.{name}"] = numpy.zeros((slots, anatomy.decoder.heads, capacity, anatomy.head_size), "f4")
    return made


class Slots:
    """The sessions, and caches of several slots, all empty at first. A step sees the slots that its rows name, and no others."""

    def __init__(self, folder: pathlib.Path, anatomy: Anatomy, slots: int, text: int, input: int):
        self.encoder, self.decoder = session(folder / ENCODER), session(folder / DECODER)
        self.cache = empty_caches(anatomy, slots, text, input)

    def encode(self, slot: int, ids: list[int]) -> None:
        for name, value in self.encoded([ids]).items():
            self.cache[name][slot, :, : len(ids)] = value[0]

    def encoded(self, inputs: list[list[int]]) -> dict[str, numpy.ndarray]:
        """The keys and values of inputs of one length."""
        names = [output.name for output in self.encoder.get_outputs()]
        results = self.encoder.run(names, {"input_ids": numpy.array(inputs, "i8")})
        return {name.removeprefix("present."): value for name, value in zip(names, results)}

    def step(self, rows: list[Row]) -> numpy.ndarray:
        """The logits of each row."""
        chosen = [row.slot for row in rows]
        binding = self.decoder.io_binding()
        for name, value in feed(rows).items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        buffers = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value[chosen]) for name, value in self.cache.items()}
        for name, value in buffers.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits")
        self.decoder.run_with_iobinding(binding)
        for name, value in buffers.items():
            self.cache[name][chosen] = value.numpy()
        return binding.get_outputs()[-1].numpy()
