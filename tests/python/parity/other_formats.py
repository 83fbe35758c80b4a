"""Tokenizers in the files of tiktoken and of SentencePiece."""

from __future__ import annotations

import base64

from training import Trained

import patterns

TIKTOKEN = {"tiktoken-r50k": "r50k_base", "tiktoken-cl100k": "cl100k_base", "tiktoken-o200k": "o200k_base"}
PATTERNS = {"r50k_base": patterns.R50K, "cl100k_base": patterns.CL100K, "o200k_base": patterns.O200K}
END = "<|endoftext|>"


def byte_alphabet() -> dict[str, int]:
    """The byte that each character of the byte-level alphabet stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def ranks(trained: Trained, pattern: str) -> bytes:
    """tiktoken's file: each token in base 64, and its rank."""
    alphabet = byte_alphabet()
    vocabulary = (trained.gpt2 if pattern == "r50k_base" else trained.llama3)["vocab"]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    lines = (f"{base64.b64encode(bytes(alphabet[c] for c in name)).decode()} {rank}\n" for rank, name in enumerate(names))
    return "".join(lines).encode()


def sentencepiece_unigram(trained: Trained) -> bytes:
    return trained.unigram


def sentencepiece_bpe(trained: Trained) -> bytes:
    return trained.fallback


SENTENCEPIECE = {"sentencepiece-unigram": sentencepiece_unigram, "sentencepiece-bpe": sentencepiece_bpe}
