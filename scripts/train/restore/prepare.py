"""Reads the sources, trains the tokenizer, and writes what training needs: pairs of ids, stripped and as they were.

    python scripts/train/restore/prepare.py
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy
import tokenizers

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import data  # noqa: E402
import sources  # noqa: E402

VOCABULARY = 1024
PAD, END = "<pad>", "</s>"
# The longest input and output in tokens, in training and when it is served: beyond, copying fails.
MAX_TOKENS = 144


def make_tokenizer(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE with few merges, and none across words or between letters and punctuation, so that copying a
    word is nearly copying its tokens; each text ends with </s>."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return tokenizer


def encoded(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> dict[str, numpy.ndarray]:
    """Sources and targets of the texts that fit, each as one array of ids after each other and one of lengths."""
    sides = [tokenizer.encode_batch([data.stripped(text) for text in texts]), tokenizer.encode_batch(texts)]
    rows = [(source.ids, target.ids) for source, target in zip(*sides) if max(len(source.ids), len(target.ids)) <= MAX_TOKENS]
    arrays = {}
    for name, side in zip(("source", "target"), zip(*rows)):
        arrays[name] = numpy.array([token for ids in side for token in ids], "u2")
        arrays[f"{name}_lengths"] = numpy.array([len(ids) for ids in side], "u2")
    return arrays


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    folder = arguments.parse_args().cache / "restore-case"
    folder.mkdir(parents=True, exist_ok=True)
    texts: dict[str, list[str]] = {"train": []}
    for source in sources.everything():
        single, double = data.flat(source, "train"), data.pairs(source, "train")
        texts["train"] += single + double
        texts[f"validation.{source.tag}"] = data.flat(source, "validation")
        print(f"{source.name}: {len(single)} sentences, {len(double)} pairs", flush=True)
    seen = texts["train"][::3]
    tokenizer = make_tokenizer(seen + [data.stripped(text) for text in seen], VOCABULARY)
    tokenizer.save(str(folder / "tokenizer.json"))
    # WordNet's whole sentences are too few to judge by.
    del texts["validation.WordNet"]
    arrays = {f"{part}.{name}": array for part, some in texts.items() for name, array in encoded(tokenizer, some).items()}
    numpy.savez_compressed(folder / "pairs.npz", **arrays)


if __name__ == "__main__":
    main()
