#!/usr/bin/env python3
"""Megabytes of text a second of Python's `tokenizers` and `tiktoken`, on all cores, in this process.

    python3 tests/bench/tokenization/peers.py out/bench/tokenization

Prints one line for each, `NAME RATE`. Calls have 64 texts, as the service's have.
"""
import base64
import json
import pathlib
import sys
import time

import tiktoken
import tokenizers

SPAN = 1.0


def rate(texts, encode):
    """Over a second, after a warm-up, from one end of the texts to the other and over again."""
    calls = [texts[start : start + 64] for start in range(0, len(texts) - 63, 64)]
    sizes = [sum(len(text.encode()) for text in call) for call in calls]
    encode(calls[0])
    done, turn, begun = 0, 0, time.perf_counter()
    while time.perf_counter() - begun < SPAN:
        encode(calls[turn % len(calls)])
        done += sizes[turn % len(calls)]
        turn += 1
    return done / 1e6 / (time.perf_counter() - begun)


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    texts = json.loads((root / "texts.json").read_text("utf-8"))
    for name in ("bytes", "words"):
        tokenizer = tokenizers.Tokenizer.from_file(str(root / f"models/{name}/1/tokenizer.json"))
        print(f"tokenizers-{name}", rate(texts, lambda call: tokenizer.encode_batch_fast(call, add_special_tokens=False)))
    lines = (line.split() for line in (root / "bytes.tiktoken").read_text().splitlines())
    pattern = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    encoding = tiktoken.Encoding("bench", pat_str=pattern, mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in lines}, special_tokens={})
    print("tiktoken-bytes", rate(texts, lambda call: encoding.encode_ordinary_batch(call, num_threads=2)))
