"""The README.md of an exported model folder."""

from __future__ import annotations

import dataclasses
import platform

import onnxruntime
import torch
import transformers
from decoder.card import size
from decoder.report import Report

from .anatomy import Anatomy


@dataclasses.dataclass
class Export:
    """What was exported, and how."""

    name: str
    source: str
    license: str
    family: str
    parameters: int
    weights: str
    command: str


def card(export: Export, anatomy: Anatomy, report: Report) -> str:
    truth = "float32 torch" if export.weights == "fp32" else "float32 torch with the same rounded weights"
    layers = f"{len(anatomy.encoder.blocks)} and {len(anatomy.decoder.blocks)} layers"
    statements = "\n".join(f"* {statement[0].upper()}{statement[1:]}." for statement, held in report.bits if held)
    return f"""
# {export.name}

`{export.source}`, exported as an encoder–decoder of form "slots" (see Quintet's ARCHITECTURE.md). License: {export.license}.

* Shape: {export.family}, {size(export.parameters)} parameters, width {anatomy.width}, {layers}, {anatomy.decoder.heads} heads of
  {anatomy.head_size}, vocabulary {anatomy.vocabulary}, inputs and outputs of at most {anatomy.context} tokens.
* Weights: {export.weights}.
* Graphs: an encoder of inputs without padding, and a step of many rows by GroupQueryAttention over key–value buffers in place.

## Measured against torch, random inputs and texts

* Logits differ from {truth} by at most {report.largest:.1e}, where the largest is {report.scale:.1f}:
  {report.relative:.1e} of their size.
* The first token is that of the original weights at {report.agreement:.1%} of the positions.
{statements}

## Make it again

    {export.command}

Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__},
ONNX Runtime {onnxruntime.__version__}.
"""
