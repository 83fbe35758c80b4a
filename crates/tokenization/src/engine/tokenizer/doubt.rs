//! Characters that the two encoders know differently: they come with tables of different versions of the Unicode Standard, and what one
//! takes for a mark, a letter or nothing yet, the other may take for something else. A text that has one is encoded by the complete one,
//! which is the reference.

use std::sync::LazyLock;

/// The characters, in ranges. Found by encoding every character up to U+3FFFF and those from U+E0000, after a letter, between marks and
/// beside punctuation, with every normalizer and pre-tokenizer of both crates at the versions in use.
#[rustfmt::skip]
const DOUBTFUL: &[(u32, u32)] = &[
    (0x61d, 0x61d), (0x7fd, 0x7fd), (0x88f, 0x88f), (0x897, 0x89f), (0x8ca, 0x8d3), (0x9fd, 0x9fe), (0xa76, 0xa76), (0xc3c, 0xc3c), (0xc5c, 0xc5c),
    (0xc77, 0xc77), (0xc84, 0xc84), (0xcdc, 0xcdc), (0xd3b, 0xd3c), (0xeba, 0xeba), (0x166d, 0x166d), (0x1715, 0x1715), (0x1abf, 0x1add),
    (0x1ae0, 0x1aeb), (0x1b4e, 0x1b4f), (0x1b7d, 0x1b7f), (0x1df6, 0x1dfa), (0x2e43, 0x2e4f), (0x2e52, 0x2e5d), (0x32ff, 0x32ff), (0xa7ce, 0xa7cf),
    (0xa7d2, 0xa7d2), (0xa7d4, 0xa7d4), (0xa7f1, 0xa7f4), (0xa82c, 0xa82c), (0xab69, 0xab69), (0x105c9, 0x105c9), (0x105e4, 0x105e4),
    (0x10781, 0x10785), (0x10787, 0x107b0), (0x107b2, 0x107ba), (0x10940, 0x10959), (0x10d24, 0x10d27), (0x10d69, 0x10d6e), (0x10eab, 0x10ead),
    (0x10ec5, 0x10ec7), (0x10ed0, 0x10ed0), (0x10efa, 0x10efb), (0x10efd, 0x10eff), (0x10f46, 0x10f50), (0x10f55, 0x10f59), (0x10f82, 0x10f89),
    (0x11070, 0x11070), (0x111c9, 0x111c9), (0x1133b, 0x1133b), (0x11383, 0x11383), (0x11385, 0x11385), (0x1138e, 0x1138e), (0x11391, 0x11391),
    (0x113c2, 0x113c2), (0x113c5, 0x113c5), (0x113c7, 0x113c8), (0x113ce, 0x113d0), (0x113d4, 0x113d5), (0x113d7, 0x113d8), (0x1144b, 0x1144f),
    (0x1145a, 0x1145b), (0x1145d, 0x1145e), (0x11660, 0x1166c), (0x116b9, 0x116b9), (0x11839, 0x1183b), (0x11938, 0x11938), (0x1193d, 0x1193e),
    (0x11943, 0x11946), (0x119e0, 0x119e0), (0x119e2, 0x119e2), (0x11a34, 0x11a34), (0x11a3f, 0x11a47), (0x11a99, 0x11a9c), (0x11a9e, 0x11aa2),
    (0x11b00, 0x11b09), (0x11b60, 0x11b67), (0x11be1, 0x11be1), (0x11c41, 0x11c45), (0x11c70, 0x11c71), (0x11d42, 0x11d42), (0x11d44, 0x11d45),
    (0x11d97, 0x11d97), (0x11db0, 0x11ddb), (0x11de0, 0x11de9), (0x11ef7, 0x11ef8), (0x11f41, 0x11f4f), (0x11fff, 0x11fff), (0x12ff1, 0x12ff2),
    (0x1611e, 0x1611e), (0x16121, 0x16128), (0x1612f, 0x1612f), (0x16d67, 0x16d6a), (0x16d6d, 0x16d6f), (0x16e97, 0x16e9a), (0x16ea0, 0x16eb8),
    (0x16ebb, 0x16ed3), (0x16fe2, 0x16fe2), (0x16ff0, 0x16ff6), (0x187f8, 0x187ff), (0x18d09, 0x18d1e), (0x18d80, 0x18df2), (0x1ccd6, 0x1ccf9),
    (0x1e030, 0x1e06d), (0x1e08f, 0x1e08f), (0x1e130, 0x1e136), (0x1e2ae, 0x1e2ae), (0x1e2ec, 0x1e2ef), (0x1e4ec, 0x1e4ef), (0x1e5ee, 0x1e5ef),
    (0x1e5ff, 0x1e5ff), (0x1e6c0, 0x1e6de), (0x1e6e0, 0x1e6f5), (0x1e6fe, 0x1e6ff), (0x1e95e, 0x1e95f), (0x1f16c, 0x1f16c), (0x1fbf0, 0x1fbf9),
    (0x2b73a, 0x2b73f), (0x2cea2, 0x2cead), (0x323b0, 0x3347f),
];

/// One bit for each character below the end of the last range.
static BITS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let end = DOUBTFUL.last().map_or(0, |(_, last)| *last as usize + 1);
    let mut bits = vec![0; end.div_ceil(64)];
    for character in DOUBTFUL.iter().flat_map(|&(first, last)| first..=last) {
        if let Some(word) = bits.get_mut(character as usize / 64) {
            *word |= 1 << (character % 64);
        }
    }
    bits
});

/// Whether a text has a character that the encoders may disagree on.
pub(super) fn has_doubtful(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let bits = &*BITS;
    text.chars().any(|character| bits.get(character as usize / 64).is_some_and(|word| word >> (character as u32 % 64) & 1 == 1))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::*;
    use crate::engine::samples;

    #[test]
    fn only_the_listed_characters_are_in_doubt() {
        assert!(!has_doubtful("plain") && !has_doubtful("naïve 日本 👍🏽") && has_doubtful("x\u{898}") && !has_doubtful("\u{10ffff}"));
        assert!(DOUBTFUL.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    /// Both encoders split and normalise every character alike, or it is in doubt: the shapes in which most differ.
    #[test]
    fn every_other_character_is_encoded_alike() {
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let shapes = [
            samples::normalized(&json!({"type": "NFKD"})),
            samples::split_words(&json!({"type": "Whitespace"})),
            samples::split_words(&json!({"type": "BertPreTokenizer"})),
            samples::split_words(&split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")),
        ];
        let characters: Vec<char> = (0x80..0x40000).filter_map(char::from_u32).collect();
        for shape in shapes {
            let tokenizer = samples::load(&shape);
            assert!(tokenizer.is_fast(), "{shape}");
            // One that is in doubt, between two marks: the complete encoder's word holds.
            let doubtful = "a\u{898}\u{899}\u{323} \u{c77}b\u{323b0}a";
            assert_eq!(tokenizer.encode(doubtful, false, false).unwrap(), tokenizer.complete(doubtful, false, false).unwrap());
            for some in characters.chunks(64) {
                let mut text = String::new();
                for c in some.iter().filter(|c| !has_doubtful(&c.to_string())) {
                    let _ = write!(text, "a{c}b a\u{301}{c}b a{c}\u{323}b ");
                }
                let fast = tokenizer.encode(&text, false, false).unwrap();
                assert_eq!(fast, tokenizer.complete(&text, false, false).unwrap(), "{} and after, {shape}", some[0].escape_unicode());
            }
        }
    }
}
