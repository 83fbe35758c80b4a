"""Tokenizers that begin with words: BERT's, and those that only know words."""

from __future__ import annotations

from definition import Json, file, sequence, template, token, tokens
from tokenizers import pre_tokenizers
from training import Trained

_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _bert(model: Json, **normalizer: bool | None) -> Json:
    traits = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    post = template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", model["vocab"])
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    normalizer_of = {"type": "BertNormalizer", **traits, **normalizer}
    return file(model, tokens(model, _BERT), normalizer=normalizer_of, pre_tokenizer={"type": "BertPreTokenizer"}, post_processor=post, decoder=decoder)


def bert_uncased(trained: Trained) -> Json:
    return _bert(trained.uncased)


def bert_multilingual(trained: Trained) -> Json:
    return _bert(trained.cased, lowercase=False)


def bert_spaces(trained: Trained) -> Json:
    """Words end at blanks alone, so that the model itself meets what spells its own tokens."""
    post = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    return _bert(trained.cased, lowercase=False, strip_accents=True) | {"pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": post}


def _words(trained: Trained, pre_tokenizer: object, pre: Json, normalizer: Json | None = None) -> Json:
    model = trained.words(pre_tokenizer)
    return file(model, tokens(model, ("[UNK]", "[PAD]", "[SEP]")), pre_tokenizer=pre, normalizer=normalizer)


def word_level(trained: Trained) -> Json:
    return _words(trained, pre_tokenizers.Whitespace(), {"type": "Whitespace"}, {"type": "Lowercase"})


def delimited(trained: Trained) -> Json:
    return _words(trained, pre_tokenizers.CharDelimiterSplit(" "), {"type": "CharDelimiterSplit", "delimiter": " "})


def punctuated(trained: Trained) -> Json:
    """Punctuation goes with what is before it, digits stand together."""
    parts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.Digits(individual_digits=False)]
    pre = sequence(
        "pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"}, {"type": "Digits", "individual_digits": False}
    )
    return _words(trained, pre_tokenizers.Sequence(parts), pre, sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"}))


def contiguous(trained: Trained) -> Json:
    """Runs of the same kind of punctuation stay together, and the text is read in NFKD."""
    pre = sequence("pretokenizers", {"type": "UnicodeScripts"}, {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Whitespace"})
    parts = [pre_tokenizers.UnicodeScripts(), pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Whitespace()]
    return _words(trained, pre_tokenizers.Sequence(parts), pre, {"type": "NFKD"}) | {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False}}


KINDS = {
    "bert-uncased": bert_uncased, "bert-multilingual": bert_multilingual, "bert-spaces": bert_spaces, "word-level": word_level,
    "delimited": delimited, "punctuated": punctuated, "contiguous": contiguous,
}
