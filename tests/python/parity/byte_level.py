"""Tokenizers over bytes: GPT-2 and its descendants."""

from __future__ import annotations

from definition import Json, behind, byte_level, file, in_front, replace, sequence, split, template, token, tokens
from training import Trained

import patterns


def gpt2(trained: Trained) -> Json:
    model = behind(trained.gpt2, ("<|endoftext|>",))
    parts = {"pre_tokenizer": byte_level(), "post_processor": byte_level(trim=False), "decoder": byte_level(prefix=True)}
    return file(model, tokens(model, ("<|endoftext|>",), normalized=True), **parts)


def roberta(trained: Trained) -> Json:
    model = behind(in_front(trained.gpt2, ("<s>", "<pad>", "</s>", "<unk>")), ("<mask>",))
    added = tokens(model, ("<s>", "<pad>", "</s>", "<unk>"), normalized=True) + tokens(model, ("<mask>",), lstrip=True)
    post = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": True}
    return file(model, added, pre_tokenizer=byte_level(prefix=True), post_processor=post, decoder=byte_level(prefix=True))


def _regex_then_bytes(*splits: Json) -> Json:
    return sequence("pretokenizers", *splits, byte_level(trim=True, regex=False))


def llama3(trained: Trained) -> Json:
    model = trained.llama3 | {"ignore_merges": True}
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    names += [f"<|reserved_special_token_{number}|>" for number in range(251)]
    added = [token(len(model["vocab"]) + number, name) for number, name in enumerate(names)]
    bos = names[0]
    post = sequence("processors", byte_level(), template(f"{bos} $A", f"{bos} $A {bos}:1 $B:1", {bos: added[0]["id"]}))
    return file(model, added, pre_tokenizer=_regex_then_bytes(split(patterns.LLAMA3)), post_processor=post, decoder=byte_level(prefix=True))


def qwen2(trained: Trained) -> Json:
    model = trained.llama3
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = [token(len(model["vocab"]) + number, name) for number, name in enumerate(names)]
    pre = _regex_then_bytes(split(patterns.QWEN2))
    return file(model, added, normalizer={"type": "NFC"}, pre_tokenizer=pre, post_processor=byte_level(trim=False, regex=False), decoder=byte_level(regex=False))


def deepseek2(trained: Trained) -> Json:
    pre = _regex_then_bytes(*map(split, patterns.DEEPSEEK_2), {"type": "Digits", "individual_digits": True})
    return _deepseek(trained, pre)


def deepseek3(trained: Trained) -> Json:
    return _deepseek(trained, _regex_then_bytes(*map(split, patterns.DEEPSEEK_3)))


def _deepseek(trained: Trained, pre: Json) -> Json:
    model = trained.llama3
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    size = len(model["vocab"])
    added = [token(size, bos, normalized=True), token(size + 1, eos, normalized=True), token(size + 2, "<｜User｜>", special=False)]
    post = template(f"{bos} $A", f"{bos} $A {bos}:1 $B:1", {bos: size})
    return file(model, added, normalizer=sequence("normalizers"), pre_tokenizer=pre, post_processor=post, decoder=byte_level(prefix=True))


def o200k(trained: Trained) -> Json:
    """As gpt-oss has it."""
    model = trained.llama3 | {"ignore_merges": False}
    names = ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|endofprompt|>")
    added = [token(len(model["vocab"]) + number, name) for number, name in enumerate(names)]
    return file(model, added, pre_tokenizer=_regex_then_bytes(split(patterns.O200K)), post_processor=byte_level(trim=False), decoder=byte_level())


def cl100k(trained: Trained) -> Json:
    """As converters write GPT-4's: what matches is kept, what is between is removed."""
    model = trained.llama3
    added = [token(len(model["vocab"]), "<|endoftext|>"), token(len(model["vocab"]) + 1, "<|im_start|>")]
    pre = _regex_then_bytes(split(patterns.LLAMA3, "Removed", invert=True))
    return file(model, added, pre_tokenizer=pre, decoder=byte_level(prefix=True))


def whisper(trained: Trained) -> Json:
    """Its marks of time are added, but not special."""
    model = trained.gpt2
    size = len(model["vocab"])
    special = [token(size + number, name) for number, name in enumerate(("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"))]
    times = [token(size + 3 + step, f"<|{step * 0.02:.2f}|>", special=False) for step in range(1501)]
    frame = "<|startoftranscript|> <|notimestamps|> $A <|endoftext|>"
    ids = {entry["content"]: entry["id"] for entry in special}
    post = template(frame, frame.replace("$A", "$A $B:1"), ids)
    return file(model, special + times, pre_tokenizer=byte_level(), post_processor=post, decoder=byte_level(prefix=True))


def bloom(trained: Trained) -> Json:
    model = in_front(trained.gpt2, ("<unk>", "<s>", "</s>", "<pad>"))
    pre = sequence("pretokenizers", split(patterns.BLOOM), byte_level(regex=False))
    post = byte_level(prefix=True, trim=False, regex=False)
    return file(model, tokens(model, ("<unk>", "<s>", "</s>", "<pad>")), pre_tokenizer=pre, post_processor=post, decoder=byte_level(prefix=True, regex=False))


def clip(trained: Trained) -> Json:
    names = ("<|startoftext|>", "<|endoftext|>")
    model = behind(trained.clip, names) | {"unk_token": "<|endoftext|>"}
    normalizer = sequence("normalizers", {"type": "NFC"}, replace(r"\s+", " ", "Regex"), {"type": "Lowercase"})
    pre = sequence("pretokenizers", split(patterns.CLIP, "Removed", invert=True), byte_level())
    first, last = (model["vocab"][name] for name in names)
    post = {"type": "RobertaProcessing", "sep": [names[1], last], "cls": [names[0], first], "trim_offsets": False, "add_prefix_space": False}
    added = tokens(model, names[:1], normalized=True) + tokens(model, names[1:])
    return file(model, added, normalizer=normalizer, pre_tokenizer=pre, post_processor=post, decoder=byte_level(prefix=True))


KINDS = {
    "gpt2": gpt2, "roberta": roberta, "llama3": llama3, "qwen2": qwen2, "deepseek2": deepseek2, "deepseek3": deepseek3,
    "o200k": o200k, "cl100k": cl100k, "whisper": whisper, "bloom": bloom, "clip": clip,
}
