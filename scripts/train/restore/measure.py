"""How well a checkpoint restores case and punctuation, beside doing nothing and beside counting pairs of words.

    python scripts/train/restore/measure.py

prints a table for each source: held-out sentences, decoded greedily.
"""

from __future__ import annotations

import argparse
import difflib
import pathlib
import sys

import torch
import transformers

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
import data  # noqa: E402
import sources  # noqa: E402
from baseline import Bigram  # noqa: E402


@torch.no_grad()
def restore(model, tokenizer, texts: list[str], batch: int = 50) -> list[str]:
    """Greedy decoding of stripped texts; those of like length go together."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    results = {}
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        inputs = tokenizer([texts[index] for index in chosen], return_tensors="pt", padding=True, return_token_type_ids=False)
        outputs = model.generate(**inputs.to(model.device), do_sample=False, num_beams=1, max_new_tokens=tokenizer.model_max_length)
        results |= zip(chosen, tokenizer.batch_decode(outputs, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return [results[index] for index in range(len(texts))]


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


def f1(found: list[set], expected: list[set]) -> float:
    hits = sum(len(a & b) for a, b in zip(found, expected))
    total = sum(map(len, found)) + sum(map(len, expected))
    return 2 * hits / total if total else 1.0


def compare(outputs: list[str], truths: list[str]) -> dict[str, float]:
    """Character error rate, words that are right, F1 of capitals and of punctuation, and letters that were changed."""
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
        "F1 of capitals": f1([a for a, _ in found], [a for a, _ in expected]),
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


def report(model, tokenizer, count: int) -> str:
    """The card's section on quality: a table and samples for each source."""
    everything = sources.everything()
    bigram = Bigram([text for source in everything for text in data.flat(source, "train")])
    parts = []
    for name, truths in held_out(everything, count).items():
        inputs = [data.stripped(text) for text in truths]
        outputs = restore(model, tokenizer, inputs)
        columns = {"doing nothing": inputs, "pairs of words": [bigram.restore(text) for text in inputs], "restore-case": outputs}
        samples = "\n".join(f"    {a}\n    → {b}" for a, b in list(zip(inputs, outputs))[:2])
        parts.append(f"{name}, {len(truths)} sentences:\n\n{table(truths, columns)}\n\n{samples}")
    return "\n\n".join(parts)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/quintet-train")
    arguments.add_argument("--sentences", type=int, default=300, help="held-out sentences of each source")
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = options.cache / "restore-case/checkpoint"
    model = transformers.T5ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    print(report(model, transformers.AutoTokenizer.from_pretrained(checkpoint), options.sentences))


if __name__ == "__main__":
    main()
