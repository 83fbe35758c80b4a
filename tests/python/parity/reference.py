"""What the reference implementations give: `tokenizers`, `tiktoken` and `sentencepiece` in Python."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Protocol

import sentencepiece
import tiktoken
import tokenizers
from definition import Json

import other_formats

Ids = list[int]
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Reference(Protocol):
    """One tokenizer."""

    size: int

    def allow(self, texts: Sequence[str]) -> list[Ids]:
        """Ids where special tokens that are spelled are taken as such."""

    def as_text(self, texts: Sequence[str]) -> list[Ids]:
        """Ids where they are text."""

    def decode(self, sequences: Sequence[Ids], *, skip: bool) -> list[str]:
        """Texts, with or without special tokens."""

    def token(self, number: int) -> str:
        """How an id is written, to show."""


def literal(definition: Json) -> Json:
    """The same tokenizer, whose model does not find its special tokens in a text: renamed to what no text spells.

    `encode_special_tokens` alone leaves them in the model, where Unigram, WordPiece and whole words find them again.
    A special token of one character keeps its name: it may be the only way to write that character.
    """
    vocabulary = definition["model"]["vocab"]
    known = set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
    special = [token["content"] for token in definition["added_tokens"] if token["special"]]
    hidden = {name: f"\ue000{place}\ue000" for place, name in enumerate(special) if len(name) > 1 and name in known}
    model = dict(definition["model"])
    if isinstance(vocabulary, dict):
        model["vocab"] = {hidden.get(name, name): number for name, number in vocabulary.items()}
    else:
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    added = [token | {"content": hidden.get(token["content"], token["content"])} for token in definition["added_tokens"]]
    return definition | {"model": model, "added_tokens": added}


class HuggingFace:
    """A tokenizer.json."""

    def __init__(self, folder: pathlib.Path) -> None:
        definition = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        self.full = tokenizers.Tokenizer.from_str(json.dumps(definition))
        self._literal = tokenizers.Tokenizer.from_str(json.dumps(literal(definition)))
        self._literal.encode_special_tokens = True
        self.size = max(self.full.get_vocab(with_added_tokens=True).values()) + 1
        self._special = {number for number, token in self.full.get_added_tokens_decoder().items() if token.special}
        decoder = json.dumps(definition["decoder"])
        self._falls_back = "ByteFallback" in decoder
        self._strips = '"Strip"' in decoder

    def allow(self, texts: Sequence[str]) -> list[Ids]:
        return [encoding.ids for encoding in self.full.encode_batch_fast(list(texts))]

    def as_text(self, texts: Sequence[str]) -> list[Ids]:
        return [encoding.ids for encoding in self._literal.encode_batch_fast(list(texts))]

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """Id, first character, one past the last, of each token."""
        encodings = self.full.encode_batch(list(texts))
        return [[(number, *span) for number, span in zip(e.ids, e.offsets, strict=True)] for e in encodings]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[list[tuple[int, int, int, int]]]:
        """Id, member, first character, one past the last, of each token."""
        encodings = self.full.encode_batch(list(pairs))
        row = lambda e: zip(e.ids, e.type_ids, e.offsets, strict=True)  # noqa: E731
        return [[(number, kind, *span) for number, kind, span in row(e)] for e in encodings]

    def decode(self, sequences: Sequence[Ids], *, skip: bool) -> list[str]:
        # Skipped here, by id: the library does not know a special token again whose content its normalizer changes.
        sequences = [[number for number in ids if not (skip and number in self._special)] for ids in sequences]
        texts = self.full.decode_batch(sequences, skip_special_tokens=False)
        if not self._falls_back:
            return texts
        return [self._in_bytes(ids) if "\ufffd" in text else text for ids, text in zip(sequences, texts, strict=True)]

    def _in_bytes(self, ids: Ids) -> str:
        """For a run of bytes of which some are no UTF-8 the library gives as many U+FFFD as there are bytes, lost characters
        included. The service means to give what is whole, and one U+FFFD for each longest piece that is not, as streams must."""
        names = [self.full.id_to_token(number) or "" for number in ids]
        whole = b"".join(bytes.fromhex(name[3:5]) if _BYTE.fullmatch(name) else name.replace("▁", " ").encode() for name in names)
        text = whole.decode("utf-8", "replace")
        return text.removeprefix(" ") if self._strips else text

    def token(self, number: int) -> str:
        return self.full.id_to_token(number) or ""


class Tiktoken:
    """A file of ranks, and a pattern."""

    def __init__(self, folder: pathlib.Path, pattern: str) -> None:
        lines = [line.split() for line in (folder / "tokenizer.tiktoken").read_bytes().splitlines()]
        ranks = {other_formats.base64.b64decode(token): int(rank) for token, rank in lines}
        special = {other_formats.END: len(ranks)}
        self._encoding = tiktoken.Encoding(pattern, pat_str=other_formats.PATTERNS[pattern], mergeable_ranks=ranks, special_tokens=special)
        self._end, self.size = len(ranks), len(ranks) + 1

    def allow(self, texts: Sequence[str]) -> list[Ids]:
        return self._encoding.encode_batch(list(texts), num_threads=1, allowed_special="all")

    def as_text(self, texts: Sequence[str]) -> list[Ids]:
        return self._encoding.encode_ordinary_batch(list(texts), num_threads=1)

    def decode(self, sequences: Sequence[Ids], *, skip: bool) -> list[str]:
        return [self._encoding.decode([number for number in ids if not (skip and number == self._end)]) for ids in sequences]

    def token(self, number: int) -> str:
        return repr(self._encoding.decode_single_token_bytes(number))


class SentencePiece:
    """A .model file. It never takes text for a control token, and gives those no text."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self.size = self._processor.vocab_size()

    def as_text(self, texts: Sequence[str]) -> list[Ids]:
        return self._processor.encode(list(texts), num_threads=1)

    allow = as_text

    def decode(self, sequences: Sequence[Ids], *, skip: bool) -> list[str]:
        assert skip
        return [self._processor.decode(list(ids)) for ids in sequences]

    def token(self, number: int) -> str:
        return self._processor.id_to_piece(number)


def load(models: pathlib.Path, name: str) -> Reference:
    folder = models / name / "1"
    if name in other_formats.TIKTOKEN:
        return Tiktoken(folder, other_formats.TIKTOKEN[name])
    return SentencePiece(folder) if name in other_formats.SENTENCEPIECE else HuggingFace(folder)
