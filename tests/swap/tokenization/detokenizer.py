"""From ids to text, whole or as they come.

A table holds the bytes that each id adds to a text. Bytes become characters from left to right, so a stream gives what the
whole gives.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable

import tokenizers

FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """The characters in which byte-level vocabularies are written: a printable byte is itself, the others come after 0xFF."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


class Detokenizer:
    """The bytes of each id, and which ids are special."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, size: int, specials: frozenset[int]) -> None:
        self.specials = specials
        decoder = tokenizer.decoder
        kinds = set(re.findall(r'"type":\s*"(\w+)"', json.dumps(json.loads(tokenizer.to_str())["decoder"])))
        alphabet = byte_alphabet()

        def pieces(token: str) -> tuple[bytes, bytes]:
            """What a token is as the first of a text, and after another."""
            if "ByteLevel" in kinds:
                known = all(character in alphabet for character in token)
                piece = bytes(alphabet[character] for character in token) if known else token.encode()
                return piece, piece
            byte = FALLBACK.fullmatch(token) if "ByteFallback" in kinds else None
            if byte is not None:
                piece = bytes([int(byte[1], 16)])
                return piece, piece
            if decoder is None:
                return token.encode(), f" {token}".encode()
            # The token in front only makes it not the first.
            return decoder.decode([token]).encode(), decoder.decode(["a", token]).removeprefix("a").encode()

        self._first: list[bytes] = []
        self._rest: list[bytes] = []
        for id in range(size):
            token = tokenizer.id_to_token(id)
            first, rest = (b"", b"") if token is None else pieces(token)
            self._first.append(first)
            self._rest.append(rest)

    def bytes_of(self, id: int) -> bytes:
        """The bytes that an id adds to a text that has tokens already."""
        return self._rest[id]

    def piece(self, id: int, is_first: bool) -> bytes:
        return self._first[id] if is_first else self._rest[id]


class Stream:
    """A text that is still being decoded."""

    def __init__(self, detokenizer: Detokenizer, skip_special_tokens: bool) -> None:
        self._detokenizer = detokenizer
        self._skip = skip_special_tokens
        self._is_first = True
        # Half a character is held back; each longest piece that is no UTF-8 becomes one U+FFFD.
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def raw(self, ids: Iterable[int]) -> bytes:
        """The bytes that ids add."""
        pieces = []
        for id in ids:
            if not (self._skip and id in self._detokenizer.specials):
                pieces.append(self._detokenizer.piece(id, self._is_first))
                self._is_first = False
        return b"".join(pieces)

    def push(self, ids: Iterable[int]) -> str:
        """The text that became whole with these ids."""
        return self._characters.decode(self.raw(ids))

    def finish(self) -> str:
        """The text that was held back."""
        return self._characters.decode(b"", final=True)
