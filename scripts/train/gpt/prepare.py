"""Reads the sources, trains the tokenizer, and writes what training needs: tokens of the training and the validation part.

    python scripts/train/gpt/prepare.py
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import sources  # noqa: E402
from documents import encode, stream, train_tokenizer  # noqa: E402

VOCABULARY = 8192


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    folder = arguments.parse_args().cache / "gpt-english"
    folder.mkdir(parents=True, exist_ok=True)
    everything = sources.everything()
    train = {source.tag: stream(source, "train") for source in everything}
    tokenizer = train_tokenizer([text for texts in train.values() for text in texts], VOCABULARY)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"train": []}
    for source in everything:
        tokens["train"] += encode(tokenizer, train[source.tag])
        validation = stream(source, "validation")
        tokens[f"validation.{source.tag}"] = encode(tokenizer, validation)
        size = sum(len(text.encode()) for text in validation) / len(tokens[f"validation.{source.tag}"])
        print(f"{source.name}: {len(train[source.tag])} documents to train on; {size:.2f} bytes a token", flush=True)
    numpy.savez_compressed(folder / "tokens.npz", **{name: numpy.array(ids, "u2") for name, ids in tokens.items()})
    print(f"{len(tokens['train'])} tokens")


if __name__ == "__main__":
    main()
