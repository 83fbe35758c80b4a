"""Tokenizers that come from SentencePiece: BPE with bytes to fall back on, and Unigram."""

from __future__ import annotations

import base64

from definition import Json, behind, file, metaspace, replace, sequence, split, template, token, tokens
from training import Trained

_CONTROLS = ("<unk>", "<s>", "</s>")


def _llama_decoder(*, strips: bool) -> Json:
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strips else []
    return sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, *strip)


def _bos(model: Json, name: str = "<s>") -> Json:
    return template(f"{name} $A", f"{name} $A {name}:1 $B:1", model["vocab"])


def llama2(trained: Trained) -> Json:
    """The whole text is one word: its normalizer writes blanks as "▁" and puts one in front."""
    model = trained.pieces
    normalizer = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
    return file(model, tokens(model, _CONTROLS), normalizer=normalizer, post_processor=_bos(model), decoder=_llama_decoder(strips=True))


def _mistral(trained: Trained, scheme: str) -> Json:
    model = behind(trained.pieces, ("[INST]", "[/INST]")) | {"ignore_merges": False}
    added = tokens(model, (*_CONTROLS, "[INST]", "[/INST]"))
    pre = metaspace(scheme, split=False)
    return file(model, added, pre_tokenizer=pre, post_processor=_bos(model), decoder=_llama_decoder(strips=scheme != "never"))


def mistral_first(trained: Trained) -> Json:
    return _mistral(trained, "first")


def mistral_never(trained: Trained) -> Json:
    return _mistral(trained, "never")


def mistral_always(trained: Trained) -> Json:
    return _mistral(trained, "always")


def gemma(trained: Trained) -> Json:
    names = ("<pad>", "<eos>", "<bos>", "<mask>", "<start_of_turn>", "<end_of_turn>")
    model = behind(trained.pieces, (*names, "\n\n", "▁▁▁"))
    added = tokens(model, (*names, "<unk>")) + tokens(model, ("\n\n", "▁▁▁"), special=False)
    pre = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    post = _bos(model, "<bos>")
    return file(model, added, normalizer=replace(" ", "▁"), pre_tokenizer=pre, post_processor=post, decoder=_llama_decoder(strips=False))


def _charsmap(trained: Trained) -> Json:
    charsmap = trained.parsed_unigram.normalizer_spec.precompiled_charsmap
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}


def _unigram(trained: Trained, front: tuple[str, ...], back: tuple[str, ...] = ()) -> Json:
    """SentencePiece's pieces with their scores, behind the tokens that a model puts in front."""
    pieces = [[piece.piece, piece.score] for piece in trained.parsed_unigram.pieces if piece.piece not in _CONTROLS]
    vocabulary = [*([name, 0.0] for name in front), *pieces, *([name, 0.0] for name in back)]
    return {"type": "Unigram", "unk_id": front.index("<unk>"), "vocab": vocabulary, "byte_fallback": False}


def _places(model: Json) -> dict[str, int]:
    return {name: number for number, (name, _) in enumerate(model["vocab"])}


def t5(trained: Trained) -> Json:
    names = ("<pad>", "</s>", "<unk>")
    model = _unigram(trained, names)
    size = len(model["vocab"])
    added = [token(number, name) for number, name in enumerate(names)]
    added += [token(size + 99 - number, f"<extra_id_{number}>") for number in range(100)]
    normalizer = sequence("normalizers", _charsmap(trained))
    pre = sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace())
    post = template("$A </s>", "$A </s> $B </s>", {"</s>": 1})
    return file(model, added, normalizer=normalizer, pre_tokenizer=pre, post_processor=post, decoder=metaspace())


def t5_plain(trained: Trained) -> Json:
    """The newer form: blanks are kept by Metaspace alone, several become one in the normalizer."""
    whole = t5(trained)
    normalizer = sequence("normalizers", _charsmap(trained), {"type": "Strip", "strip_left": False, "strip_right": True}, replace(" {2,}", "▁", "Regex"))
    return whole | {"normalizer": normalizer, "pre_tokenizer": metaspace()}


def xlm_roberta(trained: Trained) -> Json:
    names = ("<s>", "<pad>", "</s>", "<unk>")
    model = _unigram(trained, names, ("<mask>",))
    places = _places(model)
    added = [token(number, name) for number, name in enumerate(names)] + [token(places["<mask>"], "<mask>", lstrip=True)]
    normalizer = sequence("normalizers", _charsmap(trained), replace(" {2,}", " ", "Regex"))
    pre = sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace())
    post = template("<s> $A </s>", "<s> $A </s> </s> $B </s>", places)
    return file(model, added, normalizer=normalizer, pre_tokenizer=pre, post_processor=post, decoder=metaspace())


def albert(trained: Trained) -> Json:
    names = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    model = _unigram(trained, names)
    added = [token(number, name) for number, name in enumerate(names[:4])] + [token(4, "[MASK]", lstrip=True)]
    steps = [replace("``", '"'), replace("''", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, _charsmap(trained), replace(" {2,}", " ", "Regex")]
    pre = sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace())
    post = template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", _places(model))
    return file(model, added, normalizer=sequence("normalizers", *steps), pre_tokenizer=pre, post_processor=post, decoder=metaspace())


def scripts(trained: Trained) -> Json:
    """Unigram over words that are cut where the script changes; bytes where a character is unknown."""
    front = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)))
    model = _unigram(trained, front) | {"byte_fallback": True}
    added = [token(number, name) for number, name in enumerate(_CONTROLS)]
    pre = sequence("pretokenizers", {"type": "UnicodeScripts"}, metaspace("first"))
    return file(model, added, normalizer={"type": "NFKC"}, pre_tokenizer=pre, decoder=_llama_decoder(strips=True))


KINDS = {
    "llama2": llama2, "mistral-first": mistral_first, "mistral-never": mistral_never, "mistral-always": mistral_always, "gemma": gemma,
    "t5": t5, "t5-plain": t5_plain, "xlm-roberta": xlm_roberta, "albert": albert, "scripts": scripts,
}
