#!/usr/bin/env python3
"""The benchmark's text and tokenizers.

    python3 tests/bench/tokenization/models.py out/bench/tokenization

The text is that of english.py. The tokenizers are trained on a part of it: byte-level BPE of 32,000 tokens with the split of Llama 3,
which Llama's, Qwen's and OpenAI's are like, and WordPiece of 16,000 as BERT has it.
"""
import base64
import json
import pathlib
import random
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from english import byte_level, kilobytes, prose  # noqa: E402

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
