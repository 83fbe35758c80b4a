//! What golden.py wrote: every text of it, for every kind of model, against `SentencePiece` and tiktoken.
use std::{collections::HashMap, io::Read as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use serde_json::Value;

use crate::engine::{
    Stream, Tokenizer,
    formats::{
        Format, detect,
        sentencepiece::{Options, convert},
        tiktoken::{Pattern, Tiktoken},
    },
};

/// Texts that a Unigram model cuts otherwise only because tokenizers adds up in 64 bits, by kind. None else may differ.
const TIES: [(&str, usize); 4] = [("unigram-gemma", 6), ("unigram-identity", 1), ("unigram-ids", 1), ("unigram-nmt_nfkc", 1)];

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut done = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut done).unwrap();
    done
}

fn charsmaps() -> HashMap<String, Vec<u8>> {
    let all = unpacked(include_bytes!("charsmaps.gz"));
    let mut rest = all.as_slice();
    let mut done = HashMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (name, length) = std::str::from_utf8(&rest[..end]).unwrap().split_once(' ').unwrap();
        let start = end + 1;
        let length: usize = length.parse().unwrap();
        done.insert(name.to_owned(), rest[start..start + length].to_vec());
        rest = &rest[start + length..];
    }
    done
}

/// Only what puts the charsmap back; messages that are encoded one after the other are merged by the reader.
#[derive(Clone, PartialEq, prost::Message)]
struct Model {
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Normalizer {
    #[prost(bytes = "vec", tag = "2")]
    charsmap: Vec<u8>,
}

fn differing(json: &Value, texts: &[Value], expected: &[Value]) -> Vec<String> {
    let tokenizer = Tokenizer::load(&json.to_string(), &Value::Null).unwrap();
    assert!(!tokenizer.detokenizer().holds_all(), "a stream would hold everything back");
    let mut found = Vec::new();
    for (text, expected) in texts.iter().zip(expected) {
        let text = text.as_str().unwrap();
        let ids = tokenizer.encode(text, false, false).unwrap().ids;
        if serde_json::json!(ids) == expected[0] {
            let decoded = tokenizer.detokenizer().decode(&ids, true).unwrap();
            assert_eq!(decoded, expected[1].as_str().unwrap(), "{text:?} decoded");
            let mut stream = Stream::new(true);
            let streamed: String = ids.iter().map(|id| stream.push(tokenizer.detokenizer(), &[*id])).collect();
            assert_eq!(streamed + &stream.finish(tokenizer.detokenizer()).unwrap(), decoded, "{text:?} streamed");
        } else {
            found.push(format!("{text:?}: {ids:?} is not {}", expected[0]));
        }
    }
    found
}

#[test]
fn tokens_are_those_of_the_originals() {
    let golden: Value = serde_json::from_slice(&unpacked(include_bytes!("golden.json.gz"))).unwrap();
    let charsmaps = charsmaps();
    let texts = golden["texts"].as_array().unwrap();
    let ranks = golden["ranks"].as_str().unwrap().as_bytes();
    assert_eq!(detect(ranks), Format::Tiktoken);
    for (name, expected) in golden["expected"].as_object().unwrap() {
        let json = if let Some(pattern) = name.strip_prefix("tiktoken-") {
            let pattern = Pattern::by_name(pattern).unwrap();
            Tiktoken { pattern, special_tokens: vec![("<|end|>".to_owned(), 5000)] }.convert(ranks).unwrap()
        } else {
            let mut model = STANDARD.decode(golden["models"][name][1].as_str().unwrap()).unwrap();
            assert_eq!(detect(&model), Format::SentencePiece);
            if let Some(charsmap) = charsmaps.get(golden["models"][name][0].as_str().unwrap()) {
                Model { normalizer: Some(Normalizer { charsmap: charsmap.clone() }) }.encode(&mut model).unwrap();
            }
            convert(&model, Options::default()).unwrap().json
        };
        let found = differing(&json, texts, expected.as_array().unwrap());
        let allowed = TIES.iter().find(|(kind, _)| kind == name).map_or(usize::from(name.starts_with("unigram-uds")), |(_, count)| *count);
        assert!(found.len() <= allowed, "{name}: {} texts\n{}", found.len(), found.join("\n"));
    }
}
