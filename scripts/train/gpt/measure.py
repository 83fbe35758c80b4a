"""Measures a model folder's graph on the held-out part of each source: bits per byte, and what the source's tag in front is worth.

    python scripts/train/gpt/measure.py deploy/models/gpt-english/1

Windows of the context, half of it the stride: each token is predicted once. A tag can help in the first window, so the first windows
are measured with it and without; its own tokens are given, not counted.
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

# Of WordNet's held-out documents so many are measured, evenly spread, and of each of Python's files so many bytes from its beginning.
WORDNET_DOCUMENTS = 48
PYTHON_BYTES = 4096
# Tokens that a first window leaves free for the tag.
TAG_ROOM = 8


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

    def nats(self, ids: list[int], start: int, end: int) -> float:
        """The negated log-likelihood of the tokens from `start` to `end`, in one window that ends there."""
        begin = max(0, end - self.context)
        logits = self.logits(ids[begin : end - 1])[start - begin - 1 :]
        logits -= logits.max(-1, keepdims=True)
        chosen = logits[numpy.arange(end - start), ids[start:end]]
        return float((numpy.log(numpy.exp(logits).sum(-1, dtype="f8")) - chosen).sum())

    def whole(self, text: str) -> float:
        """The nats of a text of any length."""
        ids = self.tokenizer.encode(text).ids
        total, done = 0.0, 1
        while done < len(ids):
            end = min(len(ids), self.context if done == 1 else done + self.context // 2)
            total += self.nats(ids, done, end)
            done = end
        return total

    def head(self, text: str) -> str:
        """As much of a text as fits one window with a tag in front."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return text[: encoding.offsets[: self.context - TAG_ROOM][-1][1]]

    def tagged(self, source: sources.Source, head: str) -> float:
        """The nats of a beginning behind its source's tag."""
        ids = self.tokenizer.encode(tagged(source, head)).ids
        return self.nats(ids, len(self.tokenizer.encode(tagged(source, "")).ids), len(ids))


@dataclasses.dataclass
class Quality:
    """Figures of one source, in bits per byte."""

    source: sources.Source
    documents: int
    bytes: int
    # Over whole documents, without the tag.
    whole: float
    # Over the documents' first windows.
    untagged: float
    tagged: float


def measure(graph: Graph, source: sources.Source) -> Quality:
    texts = documents(source, "held_out")
    if source.tag == "WordNet":
        texts = texts[:: len(texts) // WORDNET_DOCUMENTS][:WORDNET_DOCUMENTS]
    if source.tag == "Python":
        texts = [text.encode()[:PYTHON_BYTES].decode(errors="ignore").rpartition(" ")[0] for text in texts]
    heads = [graph.head(text) for text in texts]

    def bits(nats: list[float], texts: list[str]) -> float:
        return sum(nats) / math.log(2) / sum(len(text.encode()) for text in texts)

    return Quality(
        source,
        len(texts),
        sum(len(text.encode()) for text in texts),
        bits([graph.whole(text) for text in texts], texts),
        bits([graph.whole(head) for head in heads], heads),
        bits([graph.tagged(source, head) for head in heads], heads),
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    graph = Graph(arguments.parse_args().folder)
    for source in sources.everything():
        quality = measure(graph, source)
        print(f"{source.name}: {quality.whole:.4f} bits per byte, {quality.documents} documents, {quality.bytes:,} bytes; ", end="")
        print(f"first windows {quality.untagged:.4f} without the tag, {quality.tagged:.4f} with it", flush=True)


if __name__ == "__main__":
    main()
