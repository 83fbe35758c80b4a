"""Sentences to restore: verses of the King James Bible, prose of Python's documentation, examples of WordNet."""

from __future__ import annotations

import re

import sources
from sources import documentation, wordnet

# The longest text in training, in bytes.
MAX_BYTES = 300
PUNCTUATION = ".,;:?!'\"()-"


def stripped(text: str) -> str:
    """What the model is given: lower case, without punctuation."""
    return re.sub(r"\s+", " ", re.sub(f"[{re.escape(PUNCTUATION)}]", "", text)).strip().lower()


def sentences(source: sources.Source, part: str) -> list[list[str]]:
    """The sentences of each document of a part of a source."""
    texts = getattr(source, part)
    if source.tag == "KJV":
        return [text.splitlines() for text in texts]
    if source.tag == "Python":
        # Those with code in them name more of the classes, modules and people that the others speak of.
        return [documentation.sentences(text, with_code=part == "train") for text in texts]
    # Most examples are fragments, without a capital and a full stop: those are no truth to restore.
    whole = lambda text: text[:1].isupper() and text[-1:] in ".?!" and len(text.split()) >= 4  # noqa: E731
    return [[text for text in wordnet.examples(entry) if whole(text)] for entry in texts]


def flat(source: sources.Source, part: str) -> list[str]:
    """Sentences that are short enough, each once."""
    texts = [text for document in sentences(source, part) for text in document]
    return [text for text in dict.fromkeys(texts) if len(text.encode()) <= MAX_BYTES and stripped(text)]


def pairs(source: sources.Source, part: str) -> list[str]:
    """Two sentences that follow each other, as one text."""
    texts = [f"{a} {b}" for document in sentences(source, part) for a, b in zip(document[0::2], document[1::2])]
    return [text for text in dict.fromkeys(texts) if len(text.encode()) <= MAX_BYTES]
