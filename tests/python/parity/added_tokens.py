"""Tokenizers with added tokens of every trait: single words or not, with or without the blanks beside them, normalised or not."""

from __future__ import annotations

import itertools

from definition import Json, byte_level, file, sequence, split, token
from spellings import ADDED
from training import Trained

import patterns
import words

_TRAITS = ("single_word", "lstrip", "rstrip", "normalized")


def _added(first: int, *, special_first: bool) -> list[Json]:
    """One token for each choice of traits, every other one special."""
    choices = itertools.product((False, True), repeat=len(_TRAITS))
    return [
        token(first + number, content, **dict(zip(_TRAITS, traits, strict=True)), special=number % 2 == (0 if special_first else 1))
        for number, (content, traits) in enumerate(zip(ADDED, choices, strict=True))
    ]


def on_bytes(trained: Trained) -> Json:
    model = trained.llama3
    pre = sequence("pretokenizers", split(patterns.QWEN2), byte_level(regex=False))
    normalizer = sequence("normalizers", {"type": "NFKC"}, {"type": "Lowercase"})
    return file(model, _added(len(model["vocab"]), special_first=True), normalizer=normalizer, pre_tokenizer=pre, post_processor=byte_level(), decoder=byte_level())


def on_bert(trained: Trained) -> Json:
    whole = words.bert_uncased(trained)
    return whole | {"added_tokens": whole["added_tokens"] + _added(len(whole["model"]["vocab"]), special_first=False)}


KINDS = {"added-on-bytes": on_bytes, "added-on-bert": on_bert}
