"""The parts that every tokenizer.json is put together from, as Hugging Face's files have them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def token(number: int, content: str, **traits: bool) -> Json:
    """An added token; special unless said otherwise."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **plain, **traits}


def tokens(model: Json, contents: tuple[str, ...], **traits: bool) -> list[Json]:
    """Added tokens that the model's vocabulary holds."""
    return [token(model["vocab"][content], content, **traits) for content in contents]


def file(model: Json, added: list[Json], **parts: Json | None) -> Json:
    """A whole file. The library counts on added tokens in order of id."""
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", **empty, **parts, "added_tokens": sorted(added, key=lambda entry: entry["id"]), "model": model}


def in_front(model: Json, contents: tuple[str, ...]) -> Json:
    """The model with these tokens at ids 0, 1, 2, and all others after them."""
    vocabulary = {content: number for number, content in enumerate(contents)}
    old = sorted((content for content in model["vocab"] if content not in vocabulary), key=model["vocab"].__getitem__)
    return model | {"vocab": vocabulary | {content: len(contents) + number for number, content in enumerate(old)}}


def behind(model: Json, contents: tuple[str, ...]) -> Json:
    """The model with these tokens after all others."""
    vocabulary = dict(model["vocab"])
    for content in contents:
        vocabulary.setdefault(content, len(vocabulary))
    return model | {"vocab": vocabulary}


def sequence(kind: str, *parts: Json) -> Json:
    """Several normalizers, pretokenizers, processors or decoders, one after the other."""
    return {"type": "Sequence", kind: list(parts)}


def split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def replace(pattern: str, content: str, kind: str = "String") -> Json:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def byte_level(*, prefix: bool = False, trim: bool = True, regex: bool = True) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": regex}


def metaspace(scheme: str = "always", *, split: bool = True) -> Json:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def template(single: str, pair: str, ids: dict[str, int]) -> Json:
    """TemplateProcessing out of words such as "[CLS] $A:0 [SEP] $B:1": a word without a colon is of type 0."""
    used = {word.partition(":")[0] for word in f"{single} {pair}".split()} - {"$A", "$B"}
    special = {content: {"id": content, "ids": [ids[content]], "tokens": [content]} for content in sorted(used)}
    return {"type": "TemplateProcessing", "single": _template(single), "pair": _template(pair), "special_tokens": special}


def _template(words: str) -> list[Json]:
    parts: list[Json] = []
    for word in words.split():
        name, _, type_id = word.partition(":")
        kind, label = ("Sequence", name[1:]) if name in ("$A", "$B") else ("SpecialToken", name)
        parts.append({kind: {"id": label, "type_id": int(type_id or 0)}})
    return parts
