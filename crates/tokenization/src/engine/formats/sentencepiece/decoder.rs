use serde_json::{Value, json};

use super::{
    normalizer::{SPACE, Whitespace, replace, replace_regex},
    pieces::Pieces,
    regex,
};

/// Stands for the unknown piece until the first space is taken off.
const UNKNOWN: &str = "\u{10FFFE}";

/// The decoder: `SentencePieceProcessor::Decode`. The meta symbol becomes a space, bytes become characters, the space in
/// front (the dummy prefix, or what is left of it) goes, and the unknown piece gets its surface, which keeps its own space.
pub(super) fn decoder(whitespace: Whitespace, pieces: &Pieces, surface: &str) -> Value {
    let unknown = pieces.unknown().1;
    let mut steps = vec![
        replace_regex(&format!(r"\A{}\z", regex::escape(unknown)), UNKNOWN),
        replace(SPACE, " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if whitespace.add_dummy_prefix || whitespace.remove_extra_whitespaces {
        // With `remove_extra_whitespaces`, every piece in front that begins with a space loses one, so all go, unless a piece
        // begins with two.
        let all = whitespace.remove_extra_whitespaces && !pieces.iter().any(|(_, piece)| piece.text.starts_with(&SPACE.repeat(2)));
        steps.push(json!({"type": "Strip", "content": " ", "start": if all { u32::MAX } else { 1 }, "stop": 0}));
    }
    steps.push(replace(UNKNOWN, surface));
    json!({"type": "Sequence", "decoders": steps})
}
