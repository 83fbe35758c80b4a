"""A tokenizer of a model folder, as the contract wants it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import tokenizers

from .chat import Templates
from .detokenizer import Detokenizer

# A `model_max_length` from here on is a placeholder: transformers writes 1e30 where it knows none.
NO_LENGTH = 1e9


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of an input's tokens: a special token that is added, or all tokens of a text, the first (0) or the second (1)."""

    added: int | None
    member: int
    type_id: int


@dataclasses.dataclass
class Tokens:
    """The tokens of a text, and the characters where each begins and ends."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer:
    """A loaded tokenizer."""

    def __init__(self, name: str, version: str, folder: pathlib.Path) -> None:
        self.name, self.version = name, version
        definition = (folder / "tokenizer.json").read_bytes()
        self.sha256 = hashlib.sha256(definition).hexdigest()
        described = json.loads(definition)
        # Fixed lengths in the file are those of one use in training; each request says its own.
        padding = described.pop("padding", None) or {}
        described["padding"] = described["truncation"] = None
        config_file = folder / "tokenizer_config.json"
        config: dict[str, Any] = json.loads(config_file.read_text()) if config_file.is_file() else {}

        self._full = tokenizers.Tokenizer.from_str(json.dumps(described))
        self.size = max(self._full.get_vocab(with_added_tokens=True).values()) + 1
        self.algorithm: str = described["model"]["type"]
        added = self._full.get_added_tokens_decoder()
        self.specials = {id: token.content for id, token in sorted(added.items()) if token.special}
        self._spelled = spelling({id: token for id, token in added.items() if token.special})
        self._literal = tokenizers.Tokenizer.from_str(json.dumps(without_specials(described, set(self.specials.values()))))
        self._literal.encode_special_tokens = True
        self._continued = self._after_the_beginning(described)
        self.detokenizer = Detokenizer(self._full, self.size, frozenset(self.specials))
        self._frames = {pair: self._frame(pair) for pair in [False, True]}

        length = config.get("model_max_length")
        self.max_length = int(length) if isinstance(length, (int, float)) and 1 <= length < NO_LENGTH else None
        self.pad_id = self._pad(config, padding.get("pad_id"))
        self.mask_id = self._mask(config)
        self.cuts_left = config.get("truncation_side") == "left"
        self.pads_left = config.get("padding_side") == "left"
        self.templates = Templates(config, folder)

    def _pad(self, config: dict[str, Any], file_pad: int | None) -> int | None:
        named = self._named(config, "pad_token")
        customary = (id for id, content in self.specials.items() if content in ("[PAD]", "<pad>", "<|pad|>"))
        return next((id for id in [named, file_pad, *customary] if id is not None and id < self.size), None)

    def _mask(self, config: dict[str, Any]) -> int | None:
        named = self._named(config, "mask_token")
        customary = (id for id, content in self.specials.items() if content in ("[MASK]", "<mask>"))
        return named if named in self.specials else next(customary, None)

    def _named(self, config: dict[str, Any], key: str) -> int | None:
        """The id of a token that the configuration names."""
        token = config.get(key)
        token = token.get("content") if isinstance(token, dict) else token
        return self._full.token_to_id(token) if token else None

    def _after_the_beginning(self, described: dict[str, Any]) -> tokenizers.Tokenizer | None:
        """For text that is not the beginning, where the pre-tokenizer puts a blank before the beginning alone."""
        text = json.dumps(without_specials(described, set(self.specials.values())))
        changed = re.sub(r'"prepend_scheme":\s*"first"', '"prepend_scheme": "never"', text)
        if changed == text:
            return None
        continued = tokenizers.Tokenizer.from_str(changed)
        continued.encode_special_tokens = True
        return continued

    def _frame(self, pair: bool) -> list[Part] | None:
        """What stands around the texts of an input; None = it takes no such input."""
        framed = self._full.encode("a", "a" if pair else None, add_special_tokens=True)
        parts: list[Part] = []
        for id, type_id, member in zip(framed.ids, framed.type_ids, framed.sequence_ids):
            part = Part(id if member is None else None, member or 0, type_id)
            if member is None or not parts or parts[-1] != part:
                parts.append(part)
        members = [part.member for part in parts if part.added is None]
        return parts if sorted(members) == ([0, 1] if pair else [0]) else None

    def frame(self, pair: bool, add_special_tokens: bool) -> list[Part] | None:
        """What stands around a text or a pair, in order; None = the tokenizer takes none."""
        parts = self._frames[pair]
        return parts if parts is None or add_special_tokens else [part for part in parts if part.added is None]

    def encode(self, text: str, allow_special_tokens: bool) -> Tokens:
        """A text's own tokens."""
        encoding = (self._full if allow_special_tokens else self._literal).encode(text, add_special_tokens=False)
        return Tokens(encoding.ids, encoding.offsets)

    def find_special(self, text: str) -> tuple[int, str] | None:
        """The first special token that a text spells, and the byte at which it begins."""
        encoding = self._full.encode(text, add_special_tokens=False)
        for id, (start, end) in zip(encoding.ids, encoding.offsets):
            content = self.specials.get(id)
            # The unknown token stands for text that does not spell it.
            if content is not None and content in text[start:end]:
                return len(text[: text.index(content, start)].encode()), content
        return None

    def encode_with(self, text: str, allowed: int) -> Tokens:
        """Encodes a text in which one special token may be spelled; all others that it spells are text. Without offsets."""
        return Tokens(self._encode_around(text, [match for match in self._spelled.finditer(text) if _found(match) == allowed], {}), [])

    def encode_between(self, text: str, restore: dict[str, str]) -> list[int]:
        """Encodes what a template wrote: special tokens that it spells become such, but for those that `restore` brings back in
        the text between them."""
        return self._encode_around(text, self._spelled.finditer(text), restore)

    def _encode_around(self, text: str, spelled: Iterable[re.Match[str]], restore: dict[str, str]) -> list[int]:
        """The ids of special tokens where they are spelled, and between them those of what `restore` makes of the text there."""
        table = str.maketrans(restore)
        ids: list[int] = []
        done = 0

        def between(end: int) -> None:
            part = text[done:end].translate(table)
            if part:
                tokenizer = self._continued if done > 0 and self._continued is not None else self._literal
                ids.extend(tokenizer.encode(part, add_special_tokens=False).ids)

        for match in spelled:
            between(match.start())
            ids.append(_found(match))
            done = match.end()
        between(len(text))
        return ids


def _found(match: re.Match[str]) -> int:
    """The id of the special token that was found."""
    return int((match.lastgroup or "")[1:])


def spelling(specials: dict[int, tokenizers.AddedToken]) -> re.Pattern[str]:
    """Finds special tokens, longer ones first, with the blanks that they take in; the group's name is "i" and the id."""
    tokens = sorted(specials.items(), key=lambda item: len(item[1].content), reverse=True)
    blanks = {False: "", True: r"\s*"}
    spelled = (f"(?P<i{id}>{blanks[token.lstrip]}{re.escape(token.content)}{blanks[token.rstrip]})" for id, token in tokens)
    return re.compile("|".join(spelled) or r"(?!)")


def without_specials(described: dict[str, Any], specials: set[str]) -> dict[str, Any]:
    """A definition whose model finds no special token in a text that spells one.

    That they are not split off does not do: Unigram takes "</s>" whole, WordPiece and whole words look it up. Each gets a name of
    noncharacters that no text spells. A special token of one character stays: it may be the only way to write that character.
    """
    described = copy.deepcopy(described)
    model = described["model"]
    vocabulary = model["vocab"]
    names = vocabulary if isinstance(vocabulary, dict) else [piece[0] for piece in vocabulary]
    held = sorted(special for special in specials if len(special) > 1 and special in names)
    hidden = {special: f"\U0010ffff{place}\U0010fffe" for place, special in enumerate(held)}
    if isinstance(vocabulary, dict):
        model["vocab"] = {hidden.get(token, token): id for token, id in vocabulary.items()}
    else:
        model["vocab"] = [[hidden.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    if "merges" in model:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if not hidden.keys() & {*pair, "".join(pair)}]
    for token in described.get("added_tokens", []):
        token["content"] = hidden.get(token["content"], token["content"])
    # It names tokens that are hidden now, and nothing is laid around a text by this tokenizer.
    described["post_processor"] = None
    return described
