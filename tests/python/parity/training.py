"""The models under the tokenizers, trained here from the corpus: five that `tokenizers` trains, two by SentencePiece."""

from __future__ import annotations

import functools
import json

import tokenizers
from corpus import Corpus
from definition import Json
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model
from tokenizers import models, normalizers, pre_tokenizers, trainers

import patterns
import sentencepiece_training


class Trained:
    """Each model is trained when it is first asked for."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def _train(self, tokenizer: tokenizers.Tokenizer, trainer: object, megabytes: float) -> Json:
        tokenizer.train_from_iterator(self._corpus.sample(megabytes), trainer)
        return json.loads(tokenizer.to_str())["model"]

    def _byte_level(self, pattern: str, size: int) -> Json:
        tokenizer = tokenizers.Tokenizer(models.BPE())
        parts = [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        return self._train(tokenizer, trainer, 2)

    @functools.cached_property
    def gpt2(self) -> Json:
        """Bytes, words with the blank before them."""
        return self._byte_level(patterns.GPT2, 8000)

    @functools.cached_property
    def llama3(self) -> Json:
        """Bytes, numbers in threes, line ends with what is before them."""
        return self._byte_level(patterns.LLAMA3, 12_000)

    @functools.cached_property
    def pieces(self) -> Json:
        """Characters with "▁" for a blank, and bytes for characters that are rare: Llama 2's kind. Runs of blanks are tokens as well."""
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        trainer = trainers.BpeTrainer(vocab_size=9000, limit_alphabet=1500, show_progress=False)
        model = self._train(tokenizer, trainer, 2)
        merges = [["▁" * half, "▁" * half] for half in (1, 2, 4, 8)]
        content = ["▁" * 2 * len(left) for left, _ in merges]
        names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *content]
        names += [name for name in model["vocab"] if name not in set(names)]
        vocabulary = {name: number for number, name in enumerate(names)}
        return model | {"vocab": vocabulary, "merges": merges + model["merges"], "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}

    def _word_piece(self, normalizer: object, size: int) -> Json:
        tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, limit_alphabet=3000, show_progress=False)
        return self._train(tokenizer, trainer, 1.5)

    @functools.cached_property
    def uncased(self) -> Json:
        return self._word_piece(normalizers.BertNormalizer(), 8000)

    @functools.cached_property
    def cased(self) -> Json:
        return self._word_piece(normalizers.BertNormalizer(lowercase=False, strip_accents=False), 9000)

    @functools.cached_property
    def clip(self) -> Json:
        """Byte-level, and the last token of a word ends with "</w>"."""
        tokenizer = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        parts = [pre_tokenizers.Split(tokenizers.Regex(patterns.CLIP), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False)
        model = self._train(tokenizer, trainer, 1.5)
        missing = [f"{letter}</w>" for letter in sorted(alphabet) if f"{letter}</w>" not in model["vocab"]]
        size = len(model["vocab"])
        return model | {"vocab": model["vocab"] | {letter: size + number for number, letter in enumerate(missing)}}

    def words(self, pre_tokenizer: object, size: int = 8000) -> Json:
        """Whole words, whatever a word is."""
        tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizer
        trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=["[UNK]", "[PAD]", "[SEP]"], show_progress=False)
        return self._train(tokenizer, trainer, 2)

    def _sentencepiece(self, **options: object) -> bytes:
        return sentencepiece_training.train(self._corpus.sample(1.5), **options)

    @functools.cached_property
    def unigram(self) -> bytes:
        """A SentencePiece model: unigram, its text normalised by NFKC and more."""
        return self._sentencepiece(model_type="unigram", vocab_size=8000, character_coverage=0.995, normalization_rule_name="nmt_nfkc")

    @functools.cached_property
    def fallback(self) -> bytes:
        """A SentencePiece model as Llama 2's: BPE, bytes for rare characters, digits alone, blanks kept."""
        return self._sentencepiece(
            model_type="bpe", vocab_size=8000, character_coverage=0.99, byte_fallback=True, split_digits=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        )

    @functools.cached_property
    def parsed_unigram(self) -> sentencepiece_model.ModelProto:
        parsed = sentencepiece_model.ModelProto()
        parsed.ParseFromString(self.unigram)
        return parsed
