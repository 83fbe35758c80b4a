"""Writes golden.json.gz and charsmaps.gz under crates/tokenization/src/engine/formats/tests: what SentencePiece and tiktoken make of hard
texts, with tiny models of every kind that are trained here.

    pip download --no-deps --dest out django==5.2.19
    python scripts/golden/tokenizer_formats.py out/django-5.2.19-py3-none-any.whl

needs the packages sentencepiece (0.2.3), tiktoken (0.14) and tokenizers (0.23). The wheel is read for its translations only.
"""

from __future__ import annotations

import base64
import collections
import gzip
import io
import json
import pathlib
import random
import re
import sys
import zipfile

import sentencepiece
import tiktoken
import tiktoken_ext.openai_public as openai
import tokenizers
from sentencepiece import sentencepiece_model_pb2

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "crates/tokenization/src/engine/formats/tests"

random.seed(7)

SPACES = ["\u00a0", "\u1680", "\u2000", "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u0085", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff"]
HARD = ["", " ", "  ", "   ", "\t", "\n", "\r\n", "\r\n\r\n", " \n ", "a", " a", "a ", "  a  b  ", "Hello world", "Hello  world   ", " \t Hello\tworld\n", "\u2581", "\u2581\u2581", "a\u2581b", " \u2581 a", "\u2581a", "a\u2581",
 "a\u2581\u2581 ", "<0x41>", "a<0x41>b", "<0x4", "<0x41><0x42>", "x <0x0A> y", "<unk>", "a <unk> b", "<s>", "</s>", "a<s>b </s>", "<sep>", "a<sep>b", " <sep> ", "<sep><sep>", "<sep>abc", "abc<sep>", "<SEP> Ab", "<Mask>", "a<Mask>b", "xx<sep", "foofoo", "afoob", "foo foo", "foobar foo", "xfoobarfoo", "fooba",
 "👨\u200d👩\u200d👧\u200d👦", "👍🏽", "🏳️\u200d🌈", "🇩🇪🇫🇷", "1️⃣", "1🏻A🏻", "©\u200d™️", "e\u0301", "e\u0301\u0302", "e\u0302\u0301", "a\u0301\u0323", "a\u0323\u0301", "\u0301", "\u0301a", " \u0301", "q\u0323\u0307", "ﬁ\u0301n", "ﬁne ﬂat", "ａｂｃ１２３", "ａ\u0301", "Å\u0301", "\u212b\u0301",
 "ｶﾞｷﾞｸﾞ", "ﾊﾟ ﾊ\u309a", "か\u3099", "\u1112\u1161\u11ab\u1100\u1173\u11af", "한글", "하\u11ab", "ﾡￂ", "\u1100\u1161\u11a8\u11a8", "กำลัง ทำ", "ຳ", "क\u093c क़", "ি\u09be\u09c7\u09be", "ﷺ ﻻ\u064e", "\ufb50\u064b", "½ ² ³\ufe0f ²\ufe0f ™ ℡ ㍿ ①", "¨a ´ ˜", "x\u00a8\u0301", "ΑΒΓ ᾳ ΐ ὖ ς Σ", "α\u0313\u0301\u0345", "ω\u0313\u0342\u0345", "ﾞa", "İstanbul ISTANBUL ß ẞ", "I\u0307", "Ǆ ǅ ǆ",
 "\x00", "a\x00b", "\x01\x02", "\x01", "a\x01b", "\x7f\x80\x9f", "\ufffd", "a\ufffdb", "\ue000\uf8ff", "\U0001f600\U0001f601", "\U00020000\U0002a6d6", "ḍ̇ ṩ s\u0323\u0307", "don't DON'T I'LL we've'd", "''s 'S 's", "ſ 'ſ", "12345 1234567 ١٢٣٤ ४५६", "http://a.b/c?d=e&f#g", "x = {'a': [1, 2]}\n\treturn\n\n\n  y", "....... ------ ======", "a\n\n\nb", "a \n \n b", "a   \n\n   b", "\n\n  a", "/\n/\n//\r\n/", "a\r\nb\rc\n", "ÀÉÎÕÜ Ñandú", "ĲǇ", "ẛ\u0323", "a\u034f\u0301", "a\u200b\u0301", "e\u00ad\u0301", "\u0f73\u0f75", "\u0344", "ǭ̣", "ʼn ŉ", "zażółć gęślą", "Ж\u0301ж", "\u0430\u0306", "й и\u0306", "שָׁלוֹם \ufb2a", "אָ", "ا\u0653 آ", "ਲ਼ ਲ\u0a3c", "ྲྀ", "ှို", "ប្រទេស", "தொ த\u0bca தெ\u0bbe", "ಕೋ", "ൊ െ\u0d3e", "ේ ෙ\u0dcf\u0dca"]
HARD += [f"a{s}b{s}{s}c" for s in SPACES] + [s for s in SPACES] + [s + "a" + s for s in SPACES] + [" " * n + "x" + " " * n for n in (3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100)]
HARD += [c * n for c in "ae-.\n\u2581 0é界" for n in (2, 3, 4, 5, 6, 7, 11, 16, 31, 50)] + ["a" * 600, " " * 600, "ab" * 300, "the " * 150]
POOL = list("abcdeſABC 019.,'-_/\n\r\t  \u2581<>") + SPACES + list("éàüñçßøåäö́̂̃̈̄̇̓́̕ͅ·ªº²ﬁﬂℌΩﷺｶﾞ가각한ᄒ") + ["\u1161", "\u11ab", "\u1100", "\u0323", "\u0301", "\u0302", "\u0345", "\u3099", "\u309a", "か", "ハ", "ﾊ", "ﾟ", "คำ", "ั", "ि", "\u093c", "क", "👍", "🏽", "\u200d", "❤️", "<0x41>", "<sep>", "foo", "foobar", "<Mask>", "<s>", "<unk>", "the", " and", "界世你好", "\x00", "\x03"]


def translations(wheel: str) -> list[str]:
    """Django's own messages in all its languages, each once."""
    headers = ("Project-Id", "Report-", "POT-", "PO-Rev", "Last-T", "Language", "MIME", "Content-", "Plural-")
    lines = []
    with zipfile.ZipFile(wheel) as files:
        for name in sorted(files.namelist()):
            if not re.search(r"conf/locale/.*/django\.po$", name):
                continue
            for text in re.findall(r'^(?:msgstr(?:\[\d\])?|msgid|) ?"(.+)"$', files.read(name).decode(), re.M):
                try:
                    text = json.loads('"' + text + '"')
                except ValueError:
                    continue
                if len(text) > 3 and not text.startswith(headers):
                    lines.append(text)
    lines = list(dict.fromkeys(lines))
    random.shuffle(lines)
    return lines


def noise(count: int) -> list[str]:
    return ["".join(random.choice(POOL) for _ in range(random.randint(1, 14))) for _ in range(count)]


def few_characters(lines: list[str]) -> list[str]:
    """Lines of common characters alone: so models are small, and much text is unknown to them."""
    lines = [line for line in lines if "\0" not in line]
    common = {character for character, _ in collections.Counter("".join(lines)).most_common(230)}
    return [line for line in lines if set(line) <= common][:5000]


SYMBOLS = "<sep>,foo,foobar,<Mask>"


def kinds() -> dict[str, dict[str, object]]:
    """Trainer options by name: both models, with each normalization and each way with spaces, bytes and symbols."""
    options: dict[str, dict[str, object]] = {}
    for kind in ("unigram", "bpe"):
        for name in ("nmt_nfkc", "nmt_nfkc_cf", "identity"):
            options[f"{kind}-{name}"] = {"model_type": kind, "normalization_rule_name": name}
        plain = {"model_type": kind, "normalization_rule_name": "identity"}
        nfkc = {"model_type": kind, "normalization_rule_name": "nmt_nfkc"}
        kept = {"byte_fallback": True, "remove_extra_whitespaces": False}
        blanks = ",▁▁,▁▁▁,▁▁▁▁,▁▁▁▁▁▁▁▁"
        options |= {
            f"{kind}-bytes": plain | {"byte_fallback": True},
            f"{kind}-llama": plain | kept | {"allow_whitespace_only_pieces": True, "split_digits": True},
            f"{kind}-gemma": plain | kept | {"add_dummy_prefix": False, "user_defined_symbols": SYMBOLS + blanks, "control_symbols": "<start>,<end>"},
            f"{kind}-keep": nfkc | {"remove_extra_whitespaces": False},
            f"{kind}-nodummy": nfkc | {"add_dummy_prefix": False},
            f"{kind}-suffix": nfkc | {"treat_whitespace_as_suffix": True},
            f"{kind}-uds": nfkc | {"user_defined_symbols": SYMBOLS, "control_symbols": "<cls>"},
            f"{kind}-udscf": nfkc | {"normalization_rule_name": "nmt_nfkc_cf", "user_defined_symbols": SYMBOLS, "byte_fallback": True},
            f"{kind}-ids": plain | {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "unk_surface": " UNK"},
        }
    return options


def trained(lines: list[str], options: dict[str, object]) -> sentencepiece_model_pb2.ModelProto:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, vocab_size=560, character_coverage=0.9995, hard_vocab_limit=False, minloglevel=2, **options
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    model.trainer_spec.ClearField("input")
    return model


def ranks(lines: list[str]) -> dict[bytes, int]:
    """A byte-level vocabulary as tiktoken has it."""
    level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = level(add_prefix_space=False)
    more = [" " * count for count in range(2, 20) for _ in range(50)] + ["\n\n", "\t\t", "'s", "12", "123"] * 50
    tokenizer.train_from_iterator(lines + more, tokenizers.trainers.BpeTrainer(vocab_size=1000, initial_alphabet=level.alphabet(), show_progress=False))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
    return {bytes(alphabet[character] for character in token): rank for token, rank in tokenizer.get_vocab().items()}


def patterns() -> dict[str, str]:
    """tiktoken's own, and those that are published beside vocabularies in its form."""
    openai.load_tiktoken_bpe = lambda *_, **__: {}
    llama = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return {
        "r50k_base": openai.r50k_pat_str,
        "cl100k_base": openai.cl100k_base()["pat_str"],
        "o200k_base": openai.o200k_base()["pat_str"],
        "llama3": llama,
        "qwen2": llama.replace(r"\p{N}{1,3}", r"\p{N}"),
    }


def main() -> None:
    lines = translations(sys.argv[1])
    texts = HARD + noise(80) + lines[:60]
    lines = few_characters(lines)
    golden: dict[str, object] = {"texts": texts, "models": {}, "expected": {}}
    charsmaps: dict[str, bytes] = {}
    for name, options in kinds().items():
        model = trained(lines, options)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        golden["expected"][name] = [[ids, processor.decode(ids)] for ids in map(processor.encode, texts)]
        # The charsmaps are large and few: kept apart, once each.
        if model.normalizer_spec.precompiled_charsmap:
            charsmaps[model.normalizer_spec.name] = model.normalizer_spec.precompiled_charsmap
            model.normalizer_spec.precompiled_charsmap = b""
        golden["models"][name] = [model.normalizer_spec.name, base64.b64encode(model.SerializeToString()).decode()]
    vocabulary = ranks(lines)
    golden["ranks"] = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in sorted(vocabulary.items(), key=lambda entry: entry[1]))
    for name, pattern in patterns().items():
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=vocabulary, special_tokens={})
        golden["expected"]["tiktoken-" + name] = [[ids, encoding.decode(ids)] for ids in map(encoding.encode_ordinary, texts)]
    # Name, length and bytes of each, in order of name.
    packed = b"".join(b"%s %d\n" % (name.encode(), len(charsmap)) + charsmap for name, charsmap in sorted(charsmaps.items()))
    (OUTPUT / "charsmaps.gz").write_bytes(gzip.compress(packed, 9, mtime=0))
    (OUTPUT / "golden.json.gz").write_bytes(gzip.compress(json.dumps(golden, separators=(",", ":")).encode(), 9, mtime=0))
    print(len(texts), "texts,", len(golden["expected"]), "kinds")


if __name__ == "__main__":
    main()
