//! Between the contract's messages and the engine's types.

use quintet_proto::tokenization::v1 as proto;

use crate::engine::{Algorithm, Chunk, Encoded, Entry, Input, Span};

pub(super) fn tokenizer(entry: &Entry) -> proto::Tokenizer {
    let algorithm = match entry.tokenizer.algorithm() {
        Algorithm::Bpe => proto::TokenizerAlgorithm::Bpe,
        Algorithm::WordPiece => proto::TokenizerAlgorithm::WordPiece,
        Algorithm::Unigram => proto::TokenizerAlgorithm::Unigram,
        Algorithm::WordLevel => proto::TokenizerAlgorithm::WordLevel,
    };
    let special = entry.tokenizer.specials().iter();
    proto::Tokenizer {
        name: entry.name.clone(),
        version: entry.version.clone(),
        algorithm: algorithm.into(),
        vocabulary_size: entry.tokenizer.vocabulary_size(),
        special_tokens: special.map(|special| proto::SpecialToken { id: special.id, content: special.content.clone() }).collect(),
        sha256: entry.sha256.clone(),
        model_max_length: entry.tokenizer.max_length(),
        chat_templates: entry.templates.as_ref().map(|templates| templates.names().map(str::to_owned).collect()).unwrap_or_default(),
        pad_id: entry.tokenizer.pad_id(),
        mask_id: entry.tokenizer.mask_id(),
    }
}

pub(super) fn inputs(inputs: Vec<proto::EncodeInput>) -> Vec<Input> {
    let text = |input: proto::EncodeInput| match input.raw_text {
        None => Input { text: input.text, pair: input.pair },
        Some(bytes) => Input { text: lossy(bytes), pair: input.pair },
    };
    inputs.into_iter().map(text).collect()
}

/// Text of bytes, each longest piece that is no UTF-8 being one U+FFFD.
fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

pub(super) fn encoding(encoded: Encoded) -> proto::Encoding {
    proto::Encoding {
        ids: encoded.ids,
        attention_mask: encoded.attention_mask,
        type_ids: encoded.type_ids,
        byte_offsets: spans(encoded.byte_offsets),
        char_offsets: spans(encoded.char_offsets),
        truncated_tokens: encoded.truncated as u32,
        special_tokens_mask: encoded.special_mask,
        overflow: encoded.overflow.into_iter().map(encoding).collect(),
    }
}

/// `text` is where the chunk's own text comes from, if it is wanted.
pub(super) fn chunk(chunk: &Chunk, text: Option<&str>) -> proto::TextChunk {
    let part = text.and_then(|text| text.get(chunk.bytes.0 as usize..chunk.bytes.1 as usize));
    proto::TextChunk {
        text: part.unwrap_or_default().to_owned(),
        byte_span: Some(span(chunk.bytes)),
        char_span: Some(span(chunk.characters)),
        tokens: chunk.tokens as u32,
    }
}

pub(super) fn span((start, end): Span) -> proto::Span {
    proto::Span { start, end }
}

fn spans(spans: Vec<Span>) -> Vec<proto::Span> {
    spans.into_iter().map(span).collect()
}
