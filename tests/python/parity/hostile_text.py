"""Text that breaks tokenizers. The same at every run: the only chance in it is seeded."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

from spellings import ADDED, MARKS, SPECIAL

# The most that the service takes for one text.
MEBIBYTE = 1 << 20

SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
INVISIBLE = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2066\u2067\u2068\u2069\u206f\u3164\ufeff\uffa0\ufff9\ufffa\ufffb\U000e0001\U000e0041\U000e007f"
ODD = "\ufffd\x00\ue000\uf8ff\U000f0000\U0010fffd\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff\u0378\u05ff\u0ae4\u2fff\U000323b0\U0003ffff\U000e0080"
PHRASES = (
    "The quick brown fox can't jump; it'S 3.14 o'clock, DON'T we'll I'm you've they'd she'Re.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю", "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία ΣΊΣΥΦΟΣ",
    "نص حكيم له سر قاطع وذو شأن عظيم ١٢٣", "דג סקרן שט בים מאוכזב וּלְפֶתַע", "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा १२३",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓", "我能吞下玻璃而不伤身体。𠀀𪚥﨏", "いろはにほへと ちりぬるを ガギグゲゴ ｶﾞｷﾞ", "다람쥐 헌 쳇바퀴에 타고파 각",
    "გამარჯობა ᲒᲐᲛᲐᲠᲯᲝᲑᲐ", "ሰማይ አይታረስ ንጉሥ አይከሰስ።", "ꯃꯅꯤꯄꯨꯔ ᱥᱟᱱᱛᱟᱲᱤ ߒߞߏ ⵜⴰⵎⴰⵣⵉⵖⵜ ᏣᎳᎩ", "İSTANBUL ıstanbul ſtraße STRASSE ẞ ǅ ŉ ﬁ ﬃ",
    "naïve café Ångström Ṩ ṩ Ệ ệ 각 ḍ̇ q̣̇", "½ Ⅷ ² ① ⑳ ㊿ ٣ ໓ 𝟘𝟙 𝕌𝕟𝕚 𝒎 ㎏ ㈱ ™ ℃", "don’t ‘quote’ “double” „low“ «guillemets» – — … ‥ ・",
    "def f(x):\r\n\treturn {k: v for k, v in x.items()}  # comment\n\n\n    pass\n", '{"a": [1, 2.5e-10, null], "b\\n": "\\u00e9\\ud83d"}',
    "$1,234.56 €99 £5 10% 1e9 0xFF 192.168.0.1 2024-01-31T23:59:59Z", "https://example.com/a?b=c&d=%20#e e-mail: a.b+c@d.co.uk", "\\u0041 \\x41 &amp; &#x41; %41",
)
EMOJI = ("😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇩", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☕️", "☕︎", "1️⃣", "🫩", "❤️‍🔥", "🧑🏿‍🚀", "\u200d🌈", "\ufe0f")


def _interesting() -> list[str]:
    return [*SPACES, *INVISIBLE, *ODD, *EMOJI, *SPECIAL, *MARKS, *ADDED]


def short() -> Iterator[str]:
    """Some thousands of short lines."""
    yield from ("", *_interesting())
    for piece in _interesting():
        yield from (piece * 2, f"a{piece}b", f" {piece} ", f"{piece}x", f"x {piece}", f"日{piece}本", f"{piece}\n{piece.lower()} {piece.upper()}1")
    for phrase in PHRASES:
        yield from (phrase, phrase.lower(), phrase.upper(), f"  {phrase}  ", phrase.replace(" ", "\u00a0"), phrase.replace(" ", ""))
        yield from (unicodedata.normalize(form, phrase) for form in ("NFC", "NFD", "NFKC", "NFKD"))
    yield from runs()
    yield from corners()
    yield from every_block()
    yield from soups()


def runs() -> Iterator[str]:
    """The same again and again, around the lengths at which patterns and limits turn."""
    for piece in ("a", "A", " ", "\n", "\t", "\r\n", " \n", "0", "12", "٣", "!", "'", "...", "é", "e\u0301", "\u0301", "日", "ा", "👍🏽", "\u200d", "\u00a0", "\u3000", "▁", "<", "</s>", "##", "\x00", "ﷺ"):
        yield from (piece * count for count in (3, 4, 5, 15, 16, 17, 99, 100, 101, 255, 1000))
        yield from (f"{piece * count}x" for count in (2, 3, 9))
        yield from (f"x{piece * count}" for count in (2, 3, 9))
        yield from (f"x {piece * count} {piece * count}\ny" for count in (1, 2, 5))


def corners() -> Iterator[str]:
    """Marks without a letter, letters with too many marks, Hangul in pieces, marks out of order, contractions at edges."""
    yield from ("\u0301abc", " \u0301", "a\u0323\u0301", "a\u0301\u0323", "x" + "\u0301" * 40, "ᄒ" + "ᅡ" + "ᆫ", "ᄒ한ᆫ", "각\u11a8", "\u0f71\u0f72\u0f74", "\u1e9b\u0323", "\u2126\u212b\ufb2c")
    yield from ("'s", "'S", "'ſ", "x'ſ", "'re'VE'll", "''s", "’s", "x'sx", "1's", " 's", "'\u0301s", "K's \u212a'S")
    yield from ("\u0130", "i\u0307", "\u03a3", "Α\u03a3", "Α\u03a3.", "Α\u03a3Β", "\u1e9e", "\u0149", "\u01f0", "\ufb03", "\u1fb3", "\u10a0", "\u13a0", "\uab70", "\U00010400", "\U0001e900")


def every_block() -> Iterator[str]:
    """Samples of all of Unicode but surrogates: of each 64 code points four, alone in a word, and all of them in a row."""
    for start in [*range(0, 0xD800, 64), *range(0xE000, 0x20000, 64), *range(0x20000, 0x110000, 4096)]:
        yield " ".join(f"a{chr(start + step)}1" for step in (0, 13, 37, 63))
        if start < 0x20000:
            yield "".join(chr(start + step) for step in range(64))


def soups() -> Iterator[str]:
    """Pieces of all of these thrown together."""
    chance = random.Random(20)
    pieces = [*_interesting(), *PHRASES, *"abcABC .,;:'\"-_()[]{}<>/\\|0123456789\n\t", "  ", "the", " the", "ing", "日", "é"]
    for _ in range(1500):
        yield "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 14)))
    for _ in range(500):
        yield "".join(chr(_scalar(chance)) for _ in range(chance.randrange(1, 24)))


def _scalar(chance: random.Random) -> int:
    """Any code point but a surrogate: low planes more often."""
    point = chance.randrange(chance.choice((0x80, 0x300, 0x3000, 0x10000, 0x20000, 0x110000)))
    return point if not 0xD800 <= point < 0xE000 else point - 0x800


def long(real: list[str]) -> Iterator[str]:
    """Lines of 100 KB and more, one of just as many bytes as the service takes."""
    yield from (piece * (100_000 // len(piece.encode())) for piece in ("a", " ", "\n", "7", "日", "\u0301", "👩‍👩‍👧‍👦", "ab ", "</s><|endoftext|>[SEP]"))
    chance = random.Random(21)
    yield " ".join(chance.choice(real) for _ in range(4000))
    words = " ".join(chance.choice(real) for _ in range(60_000)).encode()[: MEBIBYTE]
    whole = words.decode("utf-8", "ignore")
    yield whole + "." * (MEBIBYTE - len(whole.encode()))
