"""The texts that the embedded models are trained on, split into train, validation and held-out.

A source is a list of documents. Every 20th is held out: no model sees it, and figures are measured on it. Of the others every 50th is
for validation: what a training run picks its checkpoint by.
"""

from __future__ import annotations

import dataclasses

from . import documentation, kjv, wordnet

HELD_OUT_EVERY = 20
VALIDATION_EVERY = 50


@dataclasses.dataclass(frozen=True)
class Source:
    """Documents of one kind. `tag` is the line that begins a document, `name` what tables call it."""

    tag: str
    name: str
    train: list[str]
    validation: list[str]
    held_out: list[str]


def split(tag: str, name: str, documents: list[str]) -> Source:
    held_out = documents[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    others = [text for index, text in enumerate(documents) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    validation = others[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    train = [text for index, text in enumerate(others) if index % VALIDATION_EVERY != VALIDATION_EVERY - 1]
    return Source(tag, name, train, validation, held_out)


def everything() -> list[Source]:
    return [
        split("KJV", "King James Bible", kjv.chapters()),
        split("WordNet", "WordNet", wordnet.entries()),
        split("Python", "Python's documentation", documentation.files()),
    ]
