use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;

use crate::engine::formats::sentencepiece::proto::ModelProto;

/// What a tokenizer file is, by its bytes. The name does not tell: `tokenizer.model` is a `SentencePiece`
/// model beside Llama 2 and a tiktoken file beside Llama 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A serialized `sentencepiece.ModelProto`.
    SentencePiece,
    /// Lines of `base64 rank`.
    Tiktoken,
    /// Neither.
    Unknown,
}

/// Tells the format from the content.
pub(crate) fn detect(bytes: &[u8]) -> Format {
    if is_tiktoken(bytes) {
        Format::Tiktoken
    } else if ModelProto::decode(bytes).is_ok_and(|model| model.pieces.len() > 1 && model.trainer_spec.is_some()) {
        Format::SentencePiece
    } else {
        Format::Unknown
    }
}

/// The first line that is not empty decides: text of that form is no protobuf message with pieces, whose first byte
/// is a line feed (field 1, length-delimited) and whose second is a length.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let Some(line) = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()) else { return false };
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let mut fields = line.split_ascii_whitespace();
    matches!((fields.next(), fields.next(), fields.next()), (Some(token), Some(rank), None)
        if STANDARD.decode(token).is_ok_and(|token| !token.is_empty()) && rank.parse::<u32>().is_ok())
}
