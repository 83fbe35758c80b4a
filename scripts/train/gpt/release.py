"""Exports the trained checkpoint by scripts/export/text.py, measures the graph, and writes the model folder with its card.

    python scripts/train/gpt/release.py
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import torch
import transformers

import measure

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts/train"))
import exported  # noqa: E402
import sources  # noqa: E402

TARGET = ROOT / "deploy/models/gpt-english/1"
# Behind each tag nothing, and a prompt in the source's own form.
PROMPTS = {"KJV": "And it came to pass", "WordNet": "lighthouse (noun):", "Python": "The following example shows"}
TRAINING_DATA = [
    "King James Bible (Debian bible-kjv-text), public domain",
    "WordNet 3.0's glosses and examples (Debian wordnet-base), WordNet licence",
    "prose of Python 3.11's documentation (Debian python3.11-doc), PSF licence",
]


def write_held_out(kjv: sources.Source) -> None:
    """The data set that evaluations of the model draw from."""
    target = exported.ROOT / "deploy/datasets/kjv-heldout"
    target.mkdir(parents=True, exist_ok=True)
    (target / "text.txt").write_text("\n\n".join(kjv.held_out) + "\n")
    (target / "README.md").write_text(
        "# kjv-heldout\n\nEvery 20th chapter of the King James Bible, which `gpt-english` and `restore-case` have never seen: "
        f"{len(kjv.held_out)} chapters, one verse a\nline, chapters apart by a blank line. Written by `scripts/train/gpt/release.py`. Public domain.\n"
    )


def samples(checkpoint: pathlib.Path) -> str:
    """What follows each tag and prompt, drawn as the folder's generation_config.json says."""
    model = transformers.LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    parts = []
    for tag, own in PROMPTS.items():
        for prompt in ("", own):
            torch.manual_seed(0)
            ids = tokenizer(f"{tag}\n{prompt}", return_tensors="pt", return_token_type_ids=False)
            out = model.generate(**ids, max_new_tokens=60, pad_token_id=0)[0]
            text = tokenizer.decode(out, skip_special_tokens=True).partition("\n")[2].strip()
            heading = f"`{tag}`, `{prompt}`" if prompt else f"`{tag}` alone"
            parts.append(f"{heading}:\n\n" + "\n".join(f"> {line}".rstrip() for line in text.splitlines()))
    return "\n\n".join(parts)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    cache = arguments.parse_args().cache / "gpt-english"
    torch.set_num_threads(1)
    log = json.loads((cache / "training.json").read_text())
    compared = exported.export(cache / "checkpoint", TARGET, "--weights", "int8", "--block-size", "64", "--name", "gpt-english")
    examples = samples(cache / "checkpoint")
    graph = measure.Graph(TARGET)
    qualities = []
    everything = sources.everything()
    write_held_out(everything[0])
    for source in everything:
        qualities.append(quality := measure.measure(graph, source))
        print(f"{source.name}: {quality.whole:.4f} bits per byte", flush=True)
    exported.describe(
        TARGET,
        "A small GPT for English in three manners: the King James Bible's, a dictionary's, Python's documentation's",
        [f"{entry}: 19 of every 20 documents" for entry in TRAINING_DATA],
        card(json.loads((TARGET / "config.json").read_text()), log, qualities, compared, examples),
    )


def card(config: dict, log: dict, qualities: list[measure.Quality], compared: str, examples: str) -> str:
    rows = "\n".join(f"| {q.source.name} | `{q.source.tag}` | {q.documents} | {q.bytes:,} | **{q.whole:.3f}** | {q.untagged:.3f} | {q.tagged:.3f} |" for q in qualities)
    epochs = log["saved_step"] * log["batch"] * log["context"] / log["tokens"]
    return f"""
# gpt-english

A decoder of {log["parameters"] / 1e6:.1f} million parameters, trained from nothing on three kinds of English. A line in front of the prompt
says which: `KJV` (verse in the manner of the King James Bible), `WordNet` (a dictionary's entries, `word (part of speech): meaning`)
or `Python` (a manual's prose). The manner is right, the sense often is not.

    quintet text generate --model gpt-english $'KJV\\nAnd it came to pass'

* Shape: Llama's, width {config["hidden_size"]}, {config["num_hidden_layers"]} layers, {config["num_attention_heads"]} query and {config["num_key_value_heads"]} key–value heads of {config["head_dim"]}, SwiGLU {config["intermediate_size"]}, tied
  embeddings, byte-level BPE of {config["vocab_size"]}, context {config["max_position_embeddings"]}.
* Weights: 8 bits with a scale for each block of 64 (the embedding and the head, held once: of 32). Graph: packed (see
  ARCHITECTURE.md), written by `scripts/export/text.py`.
* Data: {TRAINING_DATA[0]};
  {TRAINING_DATA[1]};
  {TRAINING_DATA[2]}.
  A document is a chapter, 16 entries, or a file; it begins with `<|endoftext|>` and, seven times of eight, its tag on a line.
  Weights: Apache-2.0.

## Quality

Bits per byte of held-out text, by the 8-bit graph on ONNX Runtime; windows of {config["max_position_embeddings"]} tokens, stride {config["max_position_embeddings"] // 2}, each token predicted
once, the first from `<|endoftext|>`. Held out are every 20th chapter, entry and file; measured are all those chapters,
{measure.WORDNET_DOCUMENTS} of WordNet's documents, and the first {measure.PYTHON_BYTES:,} bytes of each file. What the tag is worth shows in the documents' first windows.

| source | tag | documents | bytes | all, no tag | first window, no tag | first window, tag |
|---|---|---|---|---|---|---|
{rows}

## Samples

Temperature 1, top-p 0.95, seed 0, 60 tokens.

{examples}

{compared}

## Make it, measure it again

    python scripts/train/gpt/prepare.py                                   # reads the sources, trains the tokenizer
    python scripts/train/gpt/train.py --device cuda --seconds {log["seconds"]:.0f}         # {log["steps"]} steps of {log["batch"]} × {log["context"]} tokens on half an H100
    python scripts/train/gpt/release.py                                   # exports, measures, writes this card
    python scripts/train/gpt/measure.py deploy/models/gpt-english/1       # the table above
    quintet evaluate text --model gpt-english                             # the table's first figure, through the service

Seed 0. What is served is step {log["saved_step"]}, the best by validation loss, after {epochs:.1f} passes over {log["tokens"] / 1e6:.1f} million tokens. Trained with
torch {log["torch"]} and transformers {log["transformers"]}; exported and measured with those of `scripts/train/requirements.txt`.

## Limits

It knows nothing beyond its three sources: facts, code and numbers in what it writes are invented. A text of another kind costs it
far more bits. It follows no instructions. A tag weighs less than a prompt that is in another source's form: `WordNet` before words
that begin no entry may go on as a manual.
"""


if __name__ == "__main__":
    main()
