//! Proves at load, on text, that the fast encoder gives what the complete one gives.

use std::fmt::Write as _;

/// Text that is hard to split: scripts, spaces, joined emoji, combining marks, control characters, long runs.
const HARD: [&str; 24] = [
    "",
    " ",
    "   ",
    "\n\n \t\r\n  x  \n",
    "Hello, world! It's 3.14 o'clock; don't panic — we'll see. HE'LL YOU'RE i'm I'M",
    "  two  spaces   and\ttabs\r\nand lines\n\n   end   ",
    "def f(x_1: int = 0x1F) -> None:\n    return {\"a\": [1, 22, 333, 4444, 55555]}  # https://example.org/?q=a%20b&c=1\n",
    "CamelCaseWords snake_case_words kebab-case 2026-11-25T16:00:00Z user@example.org $1,234.56 50% #tag @name",
    "Съешь ещё этих мягких французских булок, да выпей чаю. ЁЖИК",
    "日本語のテキスト、中文字符，한국어 텍스트. ｆｕｌｌｗｉｄｔｈ １２３",
    "مرحبا بالعالم עברית שָׁלוֹם हिन्दी नमस्ते ไทย ภาษา ქართული አማርኛ Ελληνικά Ὀδυσσεύς",
    "naïve café — ﬁancé “quotes” … İstanbul ıI ſ ß ẞ Ǆ ǅ",
    "👩‍👩‍👧‍👦 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽 ☕️ ©®™ ①②③ ½ ² ℌ ∑ ≠",
    "e\u{301}\u{323} n\u{303} a\u{30a} combining, zero\u{200b}width\u{200d}join \u{feff}bom \u{202e}bidi\u{202c}",
    "control \u{0}\u{1}\u{7f}\u{85}\u{9f} chars \u{2028}\u{2029}",
    "spaces:\u{a0}\u{2003}\u{2009}\u{202f}\u{3000}end\u{a0}\u{a0}  \u{3000}\u{3000}",
    "[CLS] and [SEP] and <|endoftext|> and </s> and <unk> [UNK] <s> <pad> [MASK]<|im_start|>user\n",
    "x\u{fffd}y <0x0A> <0x41> ▁ ▁▁a Ġ Ċ ##ing ##",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "1234567890123456789012345678901234567890 1 12 123 1234 ١٢٣٤٥ १२३४५ ⅫⅫ",
    "!!!???...,,,;;;:::---___===+++***///\\\\\\|||~~~```^^^&&&%%%$$$###@@@((([[[{{{<<<>>>}}}]]])))",
    "\u{e000}\u{f8ff}\u{10ffff}\u{378}\u{fdd0}\u{1fffe} private, unassigned, no characters",
    " a  b   c    d     e      f       g        h",
    "l'été d'aujourd'hui qu'il n'y a 'quoted' 's 't 're 've 'm 'll 'd 'S 'T",
];

/// Tokens of the vocabulary in one text, and texts of them.
const TOKENS: usize = 24;
const TEXTS: usize = 160;

/// The texts that both must agree on: hard ones, long runs, and the vocabulary's own tokens in mixed order.
pub(super) fn texts(vocabulary_size: u32, spelled: impl Fn(u32) -> Option<String>) -> Vec<String> {
    let mut texts: Vec<String> = HARD.iter().map(|&text| text.to_owned()).collect();
    texts.push(HARD.join(" "));
    texts.extend(["a", " ", "ab ", "\n", "語", "0", ".", "é", "\t "].map(|piece| piece.repeat(600)));
    // A multiplicative walk over the ids: no two runs differ, and every part of the vocabulary is met.
    let mut state = 0x9E37_79B9_u64;
    for text in 0..TEXTS {
        let mut line = String::new();
        for _ in 0..TOKENS {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = ((state >> 33) % u64::from(vocabulary_size.max(1))) as u32;
            if let Some(token) = spelled(id) {
                let _ = write!(line, "{token}{}", if text % 2 == 0 { " " } else { "" });
            }
        }
        texts.push(line);
    }
    texts
}

/// Added tokens whose surroundings are tried: of many, an even share.
const ADDED: usize = 300;

/// Texts that spell added tokens: in a word, between blanks, twice, and at either end.
pub(super) fn around(added: &[(u32, String)]) -> impl Iterator<Item = String> {
    let step = added.len().div_ceil(ADDED).max(1);
    // The first ones are those that every text meets.
    added
        .iter()
        .enumerate()
        .filter(move |(place, _)| *place < 32 || place % step == 0)
        .map(|(_, (_, token))| format!("{token}x{token}y {token} {token}{token}\n {token}"))
}
