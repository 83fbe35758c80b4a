"""How well case and punctuation are restored, beside doing nothing."""

from __future__ import annotations

import difflib

import tokenizers
import torch

import data
from model import Seq2Seq


@torch.no_grad()
def restore(model: Seq2Seq, tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[str]:
    """Greedy decoding of stripped texts, with the key–value cache, a batch at a time."""
    model.eval()
    results = []
    for begin in range(0, len(texts), 32):
        encodings = tokenizer.encode_batch(texts[begin : begin + 32])
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = torch.tensor([encoding.ids + [0] * (longest - len(encoding.ids)) for encoding in encodings])
        mask = torch.tensor([[1] * len(encoding.ids) + [0] * (longest - len(encoding.ids)) for encoding in encodings])
        cross = model.cross(model.encode(ids, mask))
        token, past, out = torch.zeros(len(ids), 1, dtype=torch.long), None, []
        ended = torch.zeros(len(ids), dtype=torch.bool)
        for _ in range(model.shape.max_tokens):
            logits, past = model.decode(token, past, cross, mask)
            token = logits[:, -1:].argmax(-1)
            out.append(torch.where(ended, 0, token[:, 0]))
            ended |= token[:, 0] == 1
            if ended.all():
                break
        rows = torch.stack(out, 1).tolist()
        results += [tokenizer.decode([t for t in (row[: row.index(1)] if 1 in row else row) if t > 1]) for row in rows]
    model.train()
    return results


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


def measure(model: Seq2Seq, tokenizer: tokenizers.Tokenizer, truths: list[str]) -> dict[str, float]:
    return compare(restore(model, tokenizer, [data.stripped(text) for text in truths]), truths)
