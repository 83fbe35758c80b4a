"""How well the model folder restores case and punctuation, beside doing nothing and beside counting pairs of words.

    python scripts/train/restore/measure.py

prints a table for each source: held-out sentences, decoded greedily by the graphs that are served.
"""

from __future__ import annotations

import argparse
import difflib
import json
import pathlib
import sys
from typing import NamedTuple

import tokenizers
import torch

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / "scripts/train"), str(ROOT / "scripts/export")]
import data  # noqa: E402
import sources  # noqa: E402
from baseline import Bigram  # noqa: E402
from seq2seq import runs  # noqa: E402


class Decoder(NamedTuple):
    blocks: range
    heads: int


class Shape(NamedTuple):
    decoder: Decoder
    head_size: int


class Restorer:
    """The graphs of a model folder, decoding greedily."""

    def __init__(self, folder: pathlib.Path):
        config = json.loads((folder / "config.json").read_text())
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.longest, self.begin, self.end = config["n_positions"], config["decoder_start_token_id"], config["eos_token_id"]
        shape = Shape(Decoder(range(config["num_decoder_layers"]), config["num_heads"]), config["d_kv"])
        self.slots = runs.Slots(folder, shape, 1, self.longest, self.longest)

    def restore(self, text: str) -> str:
        source, written = self.tokenizer.encode(text).ids, [self.begin]
        self.slots.encode(0, source)
        while len(written) < self.longest and written[-1] != self.end:
            row = runs.Row(0, written[-1], len(written) - 1, len(source))
            written.append(int(self.slots.step([row])[0].argmax()))
        return self.tokenizer.decode(written)


def edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def marks(text: str) -> tuple[set, set]:
    """Where capitals are, and where punctuation is, by how many letters and digits stand before."""
    capitals, punctuation, letters = set(), set(), 0
    for character in text:
        if character.isalnum():
            if character.isupper():
                capitals.add(letters)
            letters += 1
        elif character in data.PUNCTUATION:
            punctuation.add((letters, character))
    return capitals, punctuation


def capitalised(text: str) -> set:
    """The words with capitals, by how many letters and digits stand before."""
    found, letters = set(), 0
    for word in text.split():
        word = "".join(filter(str.isalnum, word))
        if word != word.lower():
            found.add((letters, word))
        letters += len(word)
    return found


def familiar(text: str, forms: set[str]) -> str:
    """The truth as one has it who knows it but for words that the training part does not have in this form: those are in lower case."""
    known = [word if word.strip(data.PUNCTUATION) in forms else word.lower() for word in text.split()]
    written = " ".join(known)
    return written[:1].upper() + written[1:]


def f1(found: list[set], expected: list[set]) -> float:
    hits = sum(len(a & b) for a, b in zip(found, expected))
    total = sum(map(len, found)) + sum(map(len, expected))
    return 2 * hits / total if total else 1.0


def compare(outputs: list[str], truths: list[str]) -> dict[str, float]:
    """Character error rate, words that are right, F1 of marks of several kinds, and letters that were changed."""
    letters = [("".join(filter(str.isalnum, text)).lower()) for text in outputs]
    truth_letters = [("".join(filter(str.isalnum, text)).lower()) for text in truths]
    words = hits = 0
    for output, truth in zip(outputs, truths):
        matcher = difflib.SequenceMatcher(None, output.split(), truth.split(), autojunk=False)
        hits += sum(block.size for block in matcher.get_matching_blocks())
        words += len(truth.split())
    found, expected = [marks(text) for text in outputs], [marks(text) for text in truths]
    return {
        "character error rate": sum(edits(a, b) for a, b in zip(outputs, truths)) / sum(map(len, truths)),
        "words right": hits / words,
        "F1 of capitals and punctuation": f1([a | b for a, b in found], [a | b for a, b in expected]),
        "F1 of capitals": f1([a for a, _ in found], [a for a, _ in expected]),
        "F1 of words with capitals": f1([capitalised(text) for text in outputs], [capitalised(text) for text in truths]),
        "F1 of punctuation": f1([b for _, b in found], [b for _, b in expected]),
        "sentences with other letters": sum(a != b for a, b in zip(letters, truth_letters)) / len(truths),
    }


def held_out(everything: list[sources.Source], count: int) -> dict[str, list[str]]:
    """Sentences of each source to measure on, drawn once for all; none of them, stripped, is in the training part."""
    seen = {data.stripped(text) for source in everything for text in data.flat(source, "train")}
    chosen = {}
    for source in everything:
        texts = [text for text in data.flat(source, "held_out") if data.stripped(text) not in seen]
        draw = torch.Generator().manual_seed(0)
        # WordNet has too few whole sentences to measure on.
        if len(texts) >= count:
            chosen[source.name] = [texts[index] for index in torch.randperm(len(texts), generator=draw)[:count].tolist()]
    return chosen


def table(truths: list[str], columns: dict[str, list[str]]) -> str:
    """A Markdown table with a column of figures for each list of outputs, the last in bold."""
    figures = {name: compare(outputs, truths) for name, outputs in columns.items()}
    *others, last = figures.values()
    rows = [f"| {key} | {' | '.join(f'{other[key]:.3f}' for other in others)} | **{value:.3f}** |" for key, value in last.items()]
    return "\n".join([f"| | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|", *rows])


def report(folder: pathlib.Path, count: int) -> str:
    """The card's section on quality: a table and samples for each source."""
    everything = sources.everything()
    restorer = Restorer(folder)
    seen = [text for source in everything for text in data.flat(source, "train")]
    bigram, forms = Bigram(seen), {word.strip(data.PUNCTUATION) for text in seen for word in text.split()}
    parts = []
    for name, truths in held_out(everything, count).items():
        inputs = [data.stripped(text) for text in truths]
        outputs = [restorer.restore(text) for text in inputs]
        columns = {"pairs of words": [bigram.restore(text) for text in inputs], "known words": [familiar(text, forms) for text in truths]}
        columns = {"doing nothing": inputs, **columns, "restore-case": outputs}
        samples = "\n".join(f"    {a}\n    → {b}" for a, b in list(zip(inputs, outputs))[:2])
        parts.append(f"{name}, {len(truths)} sentences:\n\n{table(truths, columns)}\n\n{samples}")
    return "\n\n".join(parts)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "deploy/models/restore-case/1")
    arguments.add_argument("--sentences", type=int, default=300, help="held-out sentences of each source")
    options = arguments.parse_args()
    print(report(options.folder, options.sentences))


if __name__ == "__main__":
    main()
