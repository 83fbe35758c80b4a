use quintet_proto::tokenization::v1::{
    ChunkRequest, CountTokensRequest, DecodeRequest, EncodeRequest, EncodeStreamRequest, GetTokenizerRequest, GetVocabularyRequest, Padding,
    TokenIds, Tokenizer, Truncation,
};
use tonic::Code;

use super::{SERVICE, inputs, streams};
use crate::conformance::{every::Refusal, target::Call};

const NOBODY: &str = "no-such-tokenizer";

/// What a tokenization service must refuse.
pub(super) fn of(tokenizer: &Tokenizer) -> Vec<Refusal> {
    let name = || tokenizer.name.clone();
    let one = || EncodeRequest { model: name(), inputs: inputs(&["a"]), ..EncodeRequest::default() };
    let encode = |request: EncodeRequest| Call::new(SERVICE, "Encode", &request);
    let many = |count: usize| EncodeRequest { inputs: inputs(&vec!["a"; count]), ..one() };
    let decode = |sequences: Vec<Vec<u32>>| {
        let sequences = sequences.into_iter().map(|ids| TokenIds { ids }).collect();
        Call::new(SERVICE, "Decode", &DecodeRequest { model: name(), sequences, ..DecodeRequest::default() })
    };
    let chunk = |texts: usize| ChunkRequest { model: name(), texts: vec!["a".to_owned(); texts], max_tokens: 16, ..ChunkRequest::default() };
    let chunked = |request: ChunkRequest| Call::new(SERVICE, "Chunk", &request);
    let streamed = |request: Option<EncodeRequest>| Call::new(SERVICE, "EncodeStream", &EncodeStreamRequest { request });
    let size = tokenizer.vocabulary_size;
    let missing = |rpc: &'static str, call: Call| {
        debug_assert_eq!(call.rpc(), rpc);
        Refusal::with("E6", call, Code::NotFound, Some("UNKNOWN_TOKENIZER"))
    };
    let of_version = EncodeRequest { model_version: "no-such-version".to_owned(), ..one() };
    let long = "a".repeat((1 << 20) + 1);
    let truncated = EncodeRequest {
        truncation: Some(Truncation::default()),
        padding: Some(Padding { multiple_of: 4097, pad_id: Some(0), ..Padding::default() }),
        ..one()
    };
    vec![
        Refusal::invalid("E2", encode(truncated), &["truncation.max_tokens", "padding.multiple_of"]).saying(&["4097", "4096"]),
        Refusal::invalid("E2", chunked(ChunkRequest { overlap_tokens: 9, boundary: 99, ..chunk(1) }), &["overlap_tokens", "boundary"]),
        Refusal::invalid("E3", streamed(Some(EncodeRequest { inputs: Vec::new(), ..one() })), &["inputs"]),
        Refusal::invalid("E3", streamed(None), &["request"]),
        Refusal::invalid("E5", encode(EncodeRequest { special_tokens: 42, ..one() }), &["special_tokens"]).saying(&["42"]),
        missing("Encode", encode(EncodeRequest { model: NOBODY.to_owned(), ..one() })),
        missing("GetTokenizer", Call::new(SERVICE, "GetTokenizer", &GetTokenizerRequest { model: NOBODY.to_owned(), ..Default::default() })),
        missing("GetVocabulary", Call::new(SERVICE, "GetVocabulary", &GetVocabularyRequest { model: NOBODY.to_owned(), ..Default::default() })),
        Refusal::with("E6", encode(of_version), Code::NotFound, Some("UNKNOWN_TOKENIZER_VERSION")),
        Refusal::invalid("L2", encode(many(0)), &["inputs"]),
        Refusal::invalid("L2", encode(many(4097)), &["inputs"]).saying(&["4097"]),
        Refusal::invalid("L2", Call::new(SERVICE, "CountTokens", &CountTokensRequest { model: name(), ..Default::default() }), &["inputs"]),
        Refusal::invalid("L2", decode(Vec::new()), &["sequences"]),
        Refusal::invalid("L2", decode(vec![vec![]; 4097]), &["sequences"]).saying(&["4097"]),
        Refusal::invalid("L2", chunked(chunk(0)), &["texts"]),
        Refusal::invalid("L2", chunked(chunk(4097)), &["texts"]).saying(&["4097"]),
        Refusal::invalid("L3", encode(EncodeRequest { inputs: inputs(&["a", &long]), ..one() }), &["inputs[1].text"]).saying(&["1048577"]),
        Refusal::invalid("L3", decode(vec![vec![0; (1 << 22) + 1]]), &["sequences"]).saying(&["4194305"]),
        Refusal::invalid("L3", Call::new(SERVICE, "DecodeStream", &streams::first(tokenizer, &vec![0; (1 << 17) + 1])), &["ids"]).saying(&["131073"]),
        Refusal::invalid("K10", decode(vec![vec![0, size]]), &["sequences[0].ids[1]"]),
        Refusal::invalid("K10", Call::new(SERVICE, "DecodeStream", &streams::first(tokenizer, &[u32::MAX])), &["ids[0]"]),
    ]
}
