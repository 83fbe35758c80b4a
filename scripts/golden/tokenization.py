"""Writes crates/tokenization/src/engine/golden.json: what the reference tokenizers give for the embedded models.

    python scripts/golden/tokenization.py

needs the package `tokenizers`. Run it again whenever a tokenizer.json under deploy/models has changed; the
Rust test that reads the file says so.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import random

import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "deploy/models"
OUTPUT = ROOT / "crates/tokenization/src/engine/golden.json"

TEXTS = [
    "",
    " ",
    "   ",
    "\n",
    "\n\n\n",
    " \t \r\n  x",
    "a",
    "In the beginning God created the heaven and the earth.",
    "And God said, Let there be light: and there was light.",
    "Hello, world!",
    "It's 3.14 o'clock; don't panic -- we'll see what they've done...",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "the quick brown fox jumps over the lazy dog",
    "CamelCase snake_case kebab-case SCREAMING_CASE x2y3z4",
    "1234567890 1,234,567.89 0x1F 1e-9 ½ Ⅷ ٣",
    "e-mail: someone@example.com, see https://example.com/a?b=c&d=%20#e",
    "def f(x):\n    return {k: v for k, v in x.items()}\n",
    "  leading and trailing  ",
    "many     spaces\t\ttabs\n\n\nlines",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ελληνικά και αγγλικά mixed",
    "日本語のテキストと中文字符以及한국어 문장입니다。",
    "مرحبا بالعالم שלום עולם",
    "हिन्दी में पाठ ไทย ภาษา",
    "naïve café résumé Ångström ﬁancé straße İstanbul",
    "e\u0301\u0323 combining \u1e09 precomposed",
    "👍 👍🏽 👩‍👩‍👧‍👦 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ☕️",
    "text😀between😀emoji",
    "“quotes” ‘single’ — dash … ellipsis • bullet",
    "zero\u200bwidth \ufeffbom \u00a0nbsp \u2003em \u3000ideographic",
    "control \u0000\u0001\u0007\u001b\u007f\u0085 characters",
    "replacement \ufffd and noncharacter \uffff \U0010ffff",
    "private \ue000 use",
    "[CLS] hello [SEP]",
    "[MASK][PAD][UNK][SEP]",
    "<|endoftext|>",
    "before<|endoftext|>after <|endoftext|> end",
    "<s>text</s> <pad> <unk> <mask>",
    "<0x0A> ▁ Ġ ##ing </w> Ċ",
    "a" * 150,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "𝕌𝕟𝕚𝕔𝕠𝕕𝕖 𝒎𝒂𝒕𝒉 ①②③",
    "x" + "\u0301" * 20,
    "Job 3:16 Or as an hidden untimely birth I had not been; as infants which never saw light.",
]

PAIRS = [
    ("what is light", "And God said, Let there be light: and there was light."),
    ("", "second only"),
    ("first only", ""),
    ("日本語", "Съешь ещё"),
    ("In the beginning God created the heaven and the earth.", "light"),
]

# Texts of one repeated piece, which would find a pattern engine that gives up half way.
LONG = [(" ", 1 << 20), ("\n", 1 << 20), (" a", 1 << 18), ("a", 1 << 16), ("日", 1 << 14), ("1", 1 << 14), ("  \n", 1 << 17), ("!", 1 << 16)]


def digest(ids: list[int]) -> str:
    return hashlib.sha256(b"".join(i.to_bytes(4, "little") for i in ids)).hexdigest()


def fresh(path: pathlib.Path) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encoded(tokenizer: tokenizers.Tokenizer, text: str, pair: str | None = None, special: bool = True) -> dict:
    encoding = tokenizer.encode(text, pair, add_special_tokens=special)
    return {"ids": encoding.ids, "type_ids": encoding.type_ids, "char_offsets": encoding.offsets}


def of(path: pathlib.Path) -> dict:
    allow, text_only, cut = fresh(path), fresh(path), fresh(path)
    text_only.encode_special_tokens = True
    cut.encode_special_tokens = True
    texts, pairs, truncated = [], [], []
    for text in TEXTS:
        case = encoded(text_only, text)
        spelled = encoded(allow, text)
        case |= {"text": text, "bare": encoded(text_only, text, special=False)["ids"], "allowed": spelled["ids"]}
        case |= {"decoded": allow.decode(case["ids"]), "decoded_all": allow.decode(spelled["ids"], skip_special_tokens=False)}
        texts.append(case)
    for text, pair in PAIRS:
        pairs.append({"text": text, "pair": pair, **encoded(text_only, text, pair)})
        for max_tokens in (4, 7, 8, 13):
            for side in ("left", "right"):
                cut.enable_truncation(max_tokens, direction=side)
                for second in (None, pair):
                    case = {"text": text, "pair": second, "max_tokens": max_tokens, "side": side}
                    truncated.append(case | {"ids": cut.encode(text, second).ids})
    size = max(allow.get_vocab(with_added_tokens=True).values()) + 1
    chance = random.Random(1)
    decoded = []
    for _ in range(40):
        ids = [chance.randrange(size if chance.random() < 0.5 else min(size, 300)) for _ in range(chance.randrange(1, 24))]
        decoded.append({"ids": ids, "text": allow.decode(ids), "text_all": allow.decode(ids, skip_special_tokens=False)})
    long = []
    for piece, count in LONG:
        ids = text_only.encode(piece * count, add_special_tokens=False).ids
        long.append({"piece": piece, "count": count, "tokens": len(ids), "sha256": digest(ids)})
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "texts": texts,
        "pairs": pairs,
        "truncated": truncated,
        "decoded": decoded,
        "long": long,
    }


def main() -> None:
    models = {path.parents[1].name: of(path) for path in sorted(MODELS.glob("*/*/tokenizer.json"))}
    golden = {"made_by": f"scripts/golden/tokenization.py with tokenizers {tokenizers.__version__}", "models": models}
    OUTPUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{OUTPUT.relative_to(ROOT)}: {', '.join(models)}")


if __name__ == "__main__":
    main()
