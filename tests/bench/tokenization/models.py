#!/usr/bin/env python3
"""The benchmark's text and tokenizers.

    python3 tests/bench/tokenization/models.py out/bench/tokenization

The text is prose: the docstrings and comments of Python's standard library and its own help, some megabytes of English. The
tokenizers are trained on a part of it: byte-level BPE of 32,000 tokens with the split of Llama 3, which Llama's, Qwen's and
OpenAI's are like, and WordPiece of 16,000 as BERT has it.
"""
import ast
import base64
import json
import pathlib
import random
import sys
import sysconfig

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def prose():
    """Docstrings, comments and help texts, each once."""
    for file in sorted(pathlib.Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in file.parts:
            continue
        try:
            source = file.read_text("utf-8")
            tree = ast.parse(source)
        except (UnicodeDecodeError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield ast.get_docstring(node) or ""
        yield "\n".join(line.strip()[2:] for line in source.splitlines() if line.strip().startswith("# "))
        if file.name == "topics.py" and file.parent.name == "pydoc_data":
            yield from ast.literal_eval(tree.body[-1].value).values()


def kilobytes(text):
    """Pieces of about a kilobyte, cut at spaces."""
    words, piece, size = text.split(" "), [], 0
    for word in words:
        piece.append(word)
        size += len(word.encode()) + 1
        if size >= 1024:
            yield " ".join(piece)
            piece, size = [], 0


def byte_level(texts):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=32_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def word_piece(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=16_000, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def ranks(tokenizer):
    """The byte-level vocabulary in tiktoken's form."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
    vocabulary = sorted((id, token) for token, id in tokenizer.get_vocab().items() if token != "<|endoftext|>")
    lines = (f"{base64.b64encode(bytes(alphabet[c] for c in token)).decode()} {rank}" for rank, (_, token) in enumerate(vocabulary))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    if (root / "models/words/1/tokenizer.json").exists():
        sys.exit()
    texts = list(dict.fromkeys(text for text in prose() if text))
    random.Random(7).shuffle(texts)
    pieces = list(kilobytes(" ".join(texts)))
    root.mkdir(parents=True, exist_ok=True)
    (root / "texts.json").write_text(json.dumps(pieces, ensure_ascii=False), "utf-8")
    for name, train in (("bytes", byte_level), ("words", word_piece)):
        folder = root / "models" / name / "1"
        folder.mkdir(parents=True, exist_ok=True)
        trained = train(pieces[::4])
        if name == "bytes":
            (root / "bytes.tiktoken").write_text(ranks(trained))
        trained.save(str(folder / "tokenizer.json"))
    print(f"{len(pieces):,} texts, {sum(len(piece.encode()) for piece in pieces) / 1e6:.1f} MB")
