"""What is compared: for each check how the service answers, and how the reference does."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from corpus import Corpus
from reference import HuggingFace, Reference, SentencePiece
from service import Answers, Service


@dataclasses.dataclass(frozen=True)
class Check:
    """Items (texts, pairs or ids) and the two that answer for them."""

    name: str
    items: Sequence[Any]
    service: Callable[[Sequence[Any]], Answers]
    reference: Callable[[Sequence[Any]], list[Any]]


def checks(service: Service, reference: Reference, corpus: Corpus, index: int, count: int) -> Iterator[Check]:
    """All checks of the `index`-th of `count` tokenizers."""
    real = corpus.window(index, count)
    # Hostile lines go by both policies. Of the others each goes by one, unless it looks as if it spelled a token: both are the same
    # for all others. Long ones go by the default.
    spelling = [line for line in real if "<" in line or "[" in line]
    if isinstance(reference, SentencePiece):
        yield from _sentencepiece(service, reference, [*corpus.hostile, *real])
        return
    yield Check("special tokens allowed", [*corpus.hostile, *real[::2], *spelling], service.allow, reference.allow)
    yield Check("as text", [*corpus.hostile, *real[1::2], *spelling, *_long(corpus, index)], service.as_text, reference.as_text)
    share = [*corpus.hostile[::2], *real[::40]]
    if isinstance(reference, HuggingFace):
        yield Check("offsets", share, service.offsets, reference.offsets)
        yield Check("pairs", list(zip(share[::5], share[2::5], strict=False)), service.pairs, reference.pairs)
    sequences = [*reference.allow(share), *_any_ids(reference.size)]
    for skip in (True, False):
        name = "decode without special tokens" if skip else "decode"
        yield Check(name, sequences, lambda ids, skip=skip: service.decode(ids, skip=skip), lambda ids, skip=skip: reference.decode(ids, skip=skip))
        yield _streams(service, [ids for ids in sequences[:: len(sequences) // 25] if len(ids) < 300], skip=skip)


def _sentencepiece(service: Service, reference: SentencePiece, lines: list[str]) -> Iterator[Check]:
    """SentencePiece adds scores up in 32 bits, the encoders here in 64: of two splits into the same pieces in another order, which it
    thinks different by the rounding, it may take the other one; in lines of 100 KB the rounding is larger than scores differ. And of
    bytes that are no text it replaces each, not each run."""

    def unordered(answers: Answers) -> Answers:
        return lambda: [sorted(ids) for ids in answers()]

    def runs(texts: list[str]) -> list[str]:
        return [re.sub("\ufffd+", "\ufffd", text) for text in texts]

    yield Check("as text", lines, lambda texts: unordered(service.as_text(texts)), lambda texts: [sorted(ids) for ids in reference.as_text(texts)])
    sequences = [*reference.as_text(lines[::40]), *_any_ids(reference.size)]
    yield Check("decode", sequences, lambda ids: (lambda answer: lambda: runs(answer()))(service.decode(ids, skip=True)), lambda ids: runs(reference.decode(ids, skip=True)))


def _long(corpus: Corpus, index: int) -> list[str]:
    """The longest takes as long as all other hostile lines: every third tokenizer has it."""
    return corpus.long if index % 3 == 0 else corpus.long[:-1]


def _streams(service: Service, sequences: list[list[int]], *, skip: bool) -> Check:
    """Streams against Decode itself, which is held to the reference by its own check."""
    return Check(
        "decode as a stream",
        sequences,
        lambda batch: lambda: [service.streamed(ids, skip=skip) for ids in batch],
        lambda batch: service.decode(batch, skip=skip)(),
    )


def _any_ids(size: int) -> Iterator[list[int]]:
    """Ids in no order that a text would give: low ones more often, where bytes and special tokens are."""
    chance = random.Random(22)
    for _ in range(400):
        yield [chance.randrange(chance.choice((min(size, 300), size))) for _ in range(chance.randrange(1, 24))]
