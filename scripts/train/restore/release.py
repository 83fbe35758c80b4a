"""Exports the trained checkpoint by scripts/export/text.py, measures it, and writes the model folder with its card.

    python scripts/train/restore/release.py
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

import transformers

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import data  # noqa: E402
import exported  # noqa: E402
from measure import report  # noqa: E402

TARGET = exported.ROOT / "deploy/models/restore-case/1"
TRAINING_DATA = [
    "King James Bible (Debian bible-kjv-text), public domain: verses",
    "Python 3.11's documentation (Debian python3.11-doc), PSF licence: prose sentences",
    "WordNet 3.0's examples that are whole sentences (Debian wordnet-base), WordNet licence",
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--sentences", type=int, default=300, help="held-out sentences of each source")
    options = arguments.parse_args()
    cache = options.cache / "restore-case"
    log, checkpoint = json.loads((cache / "training.json").read_text()), cache / "checkpoint"
    compared = exported.export(checkpoint, TARGET, "--name", "restore-case", "--weights", "w8a8")
    quality = report(TARGET, options.sentences)
    print(quality)
    training_data = [f"{entry}, 19 of every 20 documents" for entry in TRAINING_DATA]
    exported.describe(TARGET, "Restores case and punctuation of English", training_data, card(transformers.T5Config.from_pretrained(checkpoint), log, quality, compared))


def card(config: transformers.T5Config, log: dict, quality: str, compared: str) -> str:
    return f"""
# restore-case

A small T5 that restores case and punctuation: it reads lower case without punctuation and writes the sentence, or two.

* Shape: T5 1.1's (relative positions, gated GELU, RMSNorm, no biases), tied embeddings, width {config.d_model}, {config.num_layers} + {config.num_decoder_layers} layers,
  {config.num_heads} heads of {config.d_kv}, feed-forward {config.d_ff}, {log["parameters"]:,} parameters; byte-level BPE of {config.vocab_size}, no token across words, so that
  copying a word is nearly copying its tokens; at most {config.n_positions} tokens.
* Data: {"; ".join(TRAINING_DATA)}. Single sentences, and pairs that follow each
  other, up to {data.MAX_BYTES} bytes. Weights: Apache-2.0.

## Quality

Greedy decoding of held-out sentences: every 20th chapter, every 20th file of the documentation; none of them in the training part.
"Doing nothing" leaves the input as it is. "Pairs of words" counts, in the same training part, what stands between two words and in
which form a word comes behind the mark before it, and backs off to the words apart (`restore/baseline.py`). "Known words" is the truth,
but for the capitals of words that the training part does not have in this form: as much as it can teach. Capitals are counted by
letter, so that one WIFSTOPPED weighs as much as ten names; words with capitals are right when all of their letters are. "Sentences with
other letters" counts outputs whose letters and digits are not the input's.

{quality}

{compared}

## Make it, measure it again

    python scripts/train/restore/prepare.py                               # reads the sources, trains the tokenizer
    python scripts/train/restore/train.py --device cuda --seconds {log["seconds"]:.0f}     # {log["steps"]} steps of about {log["batch_tokens"]:,} tokens
    python scripts/train/restore/release.py                               # exports, measures, writes this card
    python scripts/train/restore/measure.py                               # the tables above

Seed 0, on an H200 that two more such trainings shared; it stood still for about three of the minutes. What is served is step {log["saved_step"]}, the
best by validation loss, in 8 bits (w8a8). Trained with torch {log["torch"]} and transformers
{log["transformers"]}; exported and measured with those of `scripts/train/requirements.txt`.

## Limits

It has read two kinds of English, a sentence or two at a time, and writes everything in their manner. Copying is learned, not built
in: some outputs change a letter (the last row of each table), and single words, other languages and invented words are often
changed. Names that it has never seen stay in lower case as a rule. Capitals in Python's prose are names for the most part, which the word
itself tells or nothing does: there counting does nearly as well, and for whole words a little better.
"""


if __name__ == "__main__":
    main()
