"""Writes tests/models/broken: the tiny Qwen2 with one token whose embedding is not a number, as a broken export may have.

    python scripts/golden/broken_decoder.py

needs onnx. Texts without the token are those of the sound model.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil

import numpy
import onnx
from onnx import numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOUND, BROKEN = ROOT / "tests/models/decoders/qwen2/1", ROOT / "tests/models/broken/1"
# None of the model's golden pair.
TOKEN = 200


def main() -> None:
    with numpy.load(SOUND / "golden.npz") as golden:
        assert TOKEN not in golden["model/in/input_ids"], "the golden pair must hold"
    shutil.rmtree(BROKEN, ignore_errors=True)
    shutil.copytree(SOUND, BROKEN, ignore=shutil.ignore_patterns("reference.json", "README.md"))
    graph = onnx.load(BROKEN / "model.onnx")
    (embedding,) = (tensor for tensor in graph.graph.initializer if tensor.name == "embedding")
    values = numpy_helper.to_array(embedding).copy()
    values[TOKEN] = numpy.nan
    embedding.CopyFrom(numpy_helper.from_array(values, "embedding"))
    onnx.save(graph, BROKEN / "model.onnx")
    manifest = (BROKEN / "quintet.toml").read_text()
    before = hashlib.sha256((SOUND / "model.onnx").read_bytes()).hexdigest()
    after = hashlib.sha256((BROKEN / "model.onnx").read_bytes()).hexdigest()
    assert before in manifest, "the manifest names the graph's hash"
    (BROKEN / "quintet.toml").write_text(manifest.replace(before, after))


if __name__ == "__main__":
    main()
