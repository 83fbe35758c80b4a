"""The README.md of an exported model folder."""

from __future__ import annotations

import dataclasses
import platform

import onnxruntime
import torch
import transformers

from .anatomy import Anatomy
from .report import Report


@dataclasses.dataclass
class Export:
    """What was exported, and how."""

    name: str
    source: str
    license: str
    family: str
    parameters: int
    weights: str
    ragged: bool
    # Of a cache of 8 bits, what its scales come from.
    calibration: str | None
    command: str


def card(export: Export, anatomy: Anatomy, report: Report) -> str:
    reach = "runs of ragged rows (ONNX Runtime 1.32, CPU)" if export.ragged else "rows of one length a run (no `query_seqlens`)"
    truth = "float32 torch" if export.weights == "fp32" else "float32 torch with the same rounded weights"
    if export.calibration is not None:
        truth += ", which rounds no keys and values,"
    heads = f"{anatomy.heads} query and {anatomy.kv_heads} key–value heads of {anatomy.head_size}"
    statements = "\n".join(f"* {line[0].upper()}{line[1:]}." for line in [*(statement for statement, _ in report.bits), *report.notes])
    return f"""
# {export.name}

`{export.source}`, exported as a packed graph (see Quintet's ARCHITECTURE.md). License: {export.license}.

* Shape: {export.family}, {size(export.parameters)} parameters, width {anatomy.width}, {len(anatomy.blocks)} layers, {heads},
  vocabulary {anatomy.vocabulary}, context {anatomy.context}.
* Weights: {export.weights}.
* Cache: {_cache(export)}
* Graph: GroupQueryAttention over key–value buffers in place; {reach}.

## Measured against torch, random prompts

* Logits differ from {truth} by at most {report.largest:.1e}, where the largest is {report.scale:.1f}:
  {report.relative:.1e} of their size.
* The first token is that of the original weights at {report.agreement:.1%} of the positions.
{statements}

## Make it again

    {export.command}

Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__},
ONNX Runtime {onnxruntime.__version__}.
"""


def _cache(export: Export) -> str:
    if export.calibration is None:
        return "float."
    return f"""int8, a scale for each channel of each head, from {export.calibration}. It takes a quarter of the memory. On a processor
  with AVX-512 attention took 2.4 to 3.1 times as long in a prompt as with a float cache, and 0.8 times as long in a step."""


def size(parameters: int) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if parameters >= unit:
            return f"{parameters / unit:.1f} {name}"
    return f"{parameters:,}"
