"""An 8-bit key–value cache: a scale for each channel of each head, from what a graph with a full cache keeps of texts."""

from __future__ import annotations

import pathlib

import numpy
import torch

from . import runs
from .anatomy import Anatomy, Unsupported
from .runs import Row, Slots

NAMES = ["float", "int8"]

# By the last part of a cache's tensor's name, `LAYER.key` or `LAYER.value`: [heads, head size].
Scales = dict[str, numpy.ndarray]

# Of a text, the tokens that are looked at, and how many of them a run has: it gives logits for each.
TOKENS = 512
CHUNK = 128
# Texts of random tokens, where there are no better ones.
TEXTS = 8
# Other texts go further than those that were looked at: what lies beyond the largest value is cut off there.
MARGIN = 1.25
# Of a channel that is always zero.
LEAST = 1e-6


def random_texts(anatomy: Anatomy) -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    return torch.randint(0, anatomy.vocabulary, (TEXTS, min(TOKENS, anatomy.context)), generator=draw).tolist()


def texts(path: pathlib.Path, tokenizer, anatomy: Anatomy) -> list[list[int]]:
    """The texts of a file, one a line, cut to what is looked at."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise Unsupported(f"--calibration {path}: it has no line with a text")
    return [tokenizer(line).input_ids[: min(TOKENS, anatomy.context)] for line in lines]


def scales(path: pathlib.Path, anatomy: Anatomy, texts: list[list[int]]) -> Scales:
    """What one step of a channel's 8 bits stands for, with which each value of these texts fits. `path`: the graph with a full cache."""
    session, peaks = runs.session(path), {}
    for text in texts:
        slots = Slots(session, anatomy, 1, len(text) + CHUNK)
        for start in range(0, len(text), CHUNK):
            slots.run([Row(0, text[start : start + CHUNK], start)])
        for name, values in slots.cache.items():
            peaks[name] = numpy.maximum(peaks.get(name, LEAST), abs(values[0, :, : len(text)]).max(1))
    return {name: (peak * (MARGIN / 127)).astype("f4") for name, peak in peaks.items()}
