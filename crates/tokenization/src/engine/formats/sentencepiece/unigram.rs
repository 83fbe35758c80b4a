use serde_json::{Value, json};

use super::{pieces::Pieces, proto::Type};

/// In front of the name of a piece that no text may match.
const HIDDEN: char = '\u{10FFFF}';

/// The Unigram model.
///
/// `SentencePiece` adds scores up in 32 bits, tokenizers in 64. Where two ways to cut a text have the same sum but for that
/// ("YYY" + "Y" and "Y" + "YYY"), they may choose differently; no scores would make them agree.
pub(super) fn model(pieces: &Pieces, byte_fallback: bool, beyond: &[String]) -> Value {
    let lowest = pieces.of_kind(Type::Normal).map(|(_, piece)| piece.score).reduce(f32::min).unwrap_or_default();
    let vocab: Vec<_> = pieces
        .iter()
        .map(|(_, piece)| match piece.kind {
            Type::Normal => json!([piece.text, piece.score]),
            Type::UserDefined => json!([piece.text, user_defined(&piece.text)]),
            // tokenizers matches every entry in the text, SentencePiece not these.
            Type::Unused => json!([format!("{HIDDEN}{}", piece.text), lowest]),
            // The lowest score of all decides how unlikely an unknown character is, so none may be lower.
            Type::Unknown | Type::Control | Type::Byte => json!([piece.text, lowest]),
        })
        .chain(beyond.iter().map(|name| json!([name, lowest])))
        .collect();
    json!({"type": "Unigram", "unk_id": pieces.unknown().0, "byte_fallback": byte_fallback, "vocab": vocab})
}

/// A name for an id that no piece and no added token has.
pub(super) fn gap(id: u32) -> String {
    format!("{HIDDEN}<unused_{id}>")
}

/// The score of a user-defined piece is not the one in the file: every byte after the first gives a tenth, so that it is
/// better than any normal pieces (measured with `SentencePiece` 0.2.3).
fn user_defined(text: &str) -> f32 {
    text.len() as f32 * 0.1 - 0.1
}
