//! Between the contract's messages and the engine's types.

use quintet_proto::tokenization::v1 as proto;

use crate::engine::{Algorithm, Encoded, Entry, Input, Span};

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
    }
}

pub(super) fn inputs(inputs: Vec<proto::EncodeInput>) -> Vec<Input> {
    inputs.into_iter().map(|input| Input { text: input.text, pair: input.pair }).collect()
}

pub(super) fn encoding(encoded: Encoded) -> proto::Encoding {
    proto::Encoding {
        ids: encoded.ids,
        attention_mask: encoded.attention_mask,
        type_ids: encoded.type_ids,
        byte_offsets: spans(encoded.byte_offsets),
        char_offsets: spans(encoded.char_offsets),
        truncated_tokens: encoded.truncated as u32,
    }
}

fn spans(spans: Vec<Span>) -> Vec<proto::Span> {
    spans.into_iter().map(|(start, end)| proto::Span { start, end }).collect()
}
