"""Measures a model folder's graph on the held-out part of each source: bits per byte, with the source's tag in front and without.

    python scripts/train/gpt/measure.py deploy/models/gpt-english/1

Windows of the context, half of it the stride: each token is predicted once. The tag's own tokens are given, not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import sys

import numpy
import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / "scripts/train"), str(ROOT / "scripts/export")]
import sources  # noqa: E402
from decoder import runs  # noqa: E402
from documents import documents, tagged  # noqa: E402


@dataclasses.dataclass
class Shape:
    """What the cache's tensors are cut by."""

    blocks: range
    kv_heads: int
    head_size: int


class Graph:
    """A packed graph that scores texts."""

    def __init__(self, folder: pathlib.Path):
        config = json.loads((folder / "config.json").read_text())
        self.context = config["max_position_embeddings"]
        self.shape = Shape(range(config["num_hidden_layers"]), config["num_key_value_heads"], config["head_dim"])
        self.session = runs.session(folder / "model.onnx")
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def logits(self, ids: list[int]) -> numpy.ndarray:
        """Behind each of the tokens, of which there are at most as many as the context."""
        return runs.Slots(self.session, self.shape, 1, self.context + 1).run([runs.Row(0, ids)])[0]

    def nats(self, text: str, given: int = 0) -> float:
        """The negated log-likelihood of a text behind its first `given` bytes, which end where a token ends."""
        encoding = self.tokenizer.encode(text)
        ids, nats = encoding.ids, 0.0
        done = 1 + len(self.tokenizer.encode(text.encode()[:given].decode(), add_special_tokens=False).ids)
        while done < len(ids):
            end = min(len(ids), self.context if done < self.context // 2 else done + self.context // 2)
            begin = max(0, end - self.context)
            logits = self.logits(ids[begin : end - 1])[done - begin - 1 :].astype("f8")
            peaks = logits.max(-1)
            chosen = logits[numpy.arange(len(logits)), ids[done:end]]
            nats += float((peaks + numpy.log(numpy.exp(logits - peaks[:, None]).sum(-1)) - chosen).sum())
            done = end
        return nats


@dataclasses.dataclass
class Quality:
    """Figures of one source: bits per byte with its tag and without, over so many documents and bytes."""

    source: sources.Source
    tagged: float
    plain: float
    documents: int
    bytes: int


def measure(graph: Graph, source: sources.Source) -> Quality:
    texts = documents(source, "held_out")
    size = sum(len(text.encode()) for text in texts)
    given = len(f"{source.tag}\n".encode())
    bits = 1 / (math.log(2) * size)
    with_tag = sum(graph.nats(tagged(source, text), given) for text in texts) * bits
    return Quality(source, with_tag, sum(graph.nats(text) for text in texts) * bits, len(texts), size)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    graph = Graph(arguments.parse_args().folder)
    for source in sources.everything():
        quality = measure(graph, source)
        print(f"{source.name}: {quality.tagged:.4f} bits per byte with the tag, {quality.plain:.4f} without; ", end="")
        print(f"{quality.documents} documents, {quality.bytes:,} bytes", flush=True)


if __name__ == "__main__":
    main()
