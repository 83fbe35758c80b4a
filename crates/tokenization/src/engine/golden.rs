//! The embedded tokenizers against the reference implementation: golden.json is made by scripts/golden/tokenization.py.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use super::{Encoded, Input, Options, Policy, Strategy, Tokenizer, Truncation, encode, samples};

#[derive(Deserialize)]
struct Golden {
    models: BTreeMap<String, Model>,
}

#[derive(Deserialize)]
struct Model {
    sha256: String,
    texts: Vec<Single>,
    pairs: Vec<Double>,
    truncated: Vec<Cut>,
    decoded: Vec<Decoded>,
    long: Vec<Long>,
}

#[derive(Deserialize)]
struct Single {
    text: String,
    ids: Vec<u32>,
    char_offsets: Vec<(u32, u32)>,
    bare: Vec<u32>,
    allowed: Vec<u32>,
    decoded: String,
    decoded_all: String,
}

#[derive(Deserialize)]
struct Double {
    text: String,
    pair: String,
    ids: Vec<u32>,
    type_ids: Vec<u32>,
    char_offsets: Vec<(u32, u32)>,
}

#[derive(Deserialize)]
struct Cut {
    text: String,
    pair: Option<String>,
    max_tokens: usize,
    side: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Decoded {
    ids: Vec<u32>,
    text: String,
    text_all: String,
}

#[derive(Deserialize)]
struct Long {
    piece: String,
    count: usize,
    tokens: usize,
    sha256: String,
}

const OPTIONS: Options = Options {
    add_special_tokens: true,
    policy: Policy::AsText,
    truncation: None,
    padding: None,
    offsets: true,
    special_mask: false,
    max_tokens: 1 << 24,
    max_bytes: 1 << 30,
};

fn one(tokenizer: &Tokenizer, text: &str, pair: Option<&str>, options: Options) -> Encoded {
    let input = Input { text: text.to_owned(), pair: pair.map(str::to_owned) };
    encode(tokenizer, &[input], &options, || false).unwrap().unwrap().remove(0)
}

/// Each embedded tokenizer with its golden values. Those are worth nothing for another file than they were made from.
fn each(check: impl Fn(&str, &Tokenizer, &Model)) {
    let golden: Golden = serde_json::from_str(include_str!("golden.json")).unwrap();
    let embedded = samples::embedded();
    assert!(!embedded.is_empty(), "deploy/models has no tokenizer");
    for (name, path) in embedded {
        let json = std::fs::read_to_string(path).unwrap();
        let model = golden.models.get(&name).filter(|model| model.sha256 == hex::encode(Sha256::digest(&json)));
        let Some(model) = model else { panic!("{name}: its tokenizer.json has changed: run scripts/golden/tokenization.py") };
        check(&name, &samples::load(&json), model);
    }
}

/// Whether the reference, too, took the text for text: it finds special tokens again that are words of its model.
fn is_text(tokenizer: &Tokenizer, bare: &[u32]) -> bool {
    let unknown = ["<unk>", "[UNK]"];
    !tokenizer.specials().iter().any(|special| bare.contains(&special.id) && !unknown.contains(&special.content.as_str()))
}

#[test]
fn texts_give_the_reference_ids_and_offsets() {
    each(|name, tokenizer, golden| {
        for case in &golden.texts {
            let allowed = one(tokenizer, &case.text, None, Options { policy: Policy::Allow, ..OPTIONS });
            assert_eq!(allowed.ids, case.allowed, "{name}: {:?} with special tokens allowed", case.text);
            if !is_text(tokenizer, &case.bare) {
                continue;
            }
            let encoded = one(tokenizer, &case.text, None, OPTIONS);
            assert_eq!(encoded.ids, case.ids, "{name}: {:?}", case.text);
            assert_eq!(encoded.char_offsets, case.char_offsets, "{name}: {:?}", case.text);
            let bare = one(tokenizer, &case.text, None, Options { add_special_tokens: false, offsets: false, ..OPTIONS });
            assert_eq!(bare.ids, case.bare, "{name}: {:?} bare", case.text);
        }
    });
}

#[test]
fn byte_offsets_name_the_same_characters() {
    each(|name, tokenizer, golden| {
        for case in &golden.texts {
            let encoded = one(tokenizer, &case.text, None, OPTIONS);
            for (bytes, characters) in encoded.byte_offsets.iter().zip(&encoded.char_offsets) {
                let by_bytes = &case.text[bytes.0 as usize..bytes.1 as usize];
                let by_characters: String = case.text.chars().skip(characters.0 as usize).take((characters.1 - characters.0) as usize).collect();
                assert_eq!(by_bytes, by_characters, "{name}: {:?} {bytes:?}", case.text);
            }
        }
    });
}

#[test]
fn pairs_give_the_reference_ids() {
    each(|name, tokenizer, golden| {
        for case in &golden.pairs {
            let encoded = one(tokenizer, &case.text, Some(&case.pair), OPTIONS);
            assert_eq!(encoded.ids, case.ids, "{name}: {:?} {:?}", case.text, case.pair);
            assert_eq!(encoded.type_ids, case.type_ids, "{name}: {:?} {:?}", case.text, case.pair);
            assert_eq!(encoded.char_offsets, case.char_offsets, "{name}: {:?} {:?}", case.text, case.pair);
        }
    });
}

#[test]
fn truncation_cuts_as_the_reference_does() {
    each(|name, tokenizer, golden| {
        for case in &golden.truncated {
            let pair = case.pair.as_deref();
            let truncation =
                Some(Truncation { max_tokens: case.max_tokens, left: case.side == "left", strategy: Strategy::LongestFirst, overflow: None });
            let encoded = one(tokenizer, &case.text, pair, Options { truncation, ..OPTIONS });
            let context = format!("{name}: {:?} {pair:?} to {} {}", case.text, case.max_tokens, case.side);
            assert_eq!(encoded.ids, case.ids, "{context}");
            assert_eq!(encoded.truncated, one(tokenizer, &case.text, pair, OPTIONS).ids.len() - case.ids.len(), "{context}");
            assert_eq!(encoded.byte_offsets.len(), case.ids.len(), "{context}");
        }
    });
}

#[test]
fn ids_decode_to_the_reference_texts() {
    each(|name, tokenizer, golden| {
        let decode = |ids: &[u32], skip| tokenizer.detokenizer().decode(ids, skip).unwrap();
        for case in &golden.texts {
            assert_eq!(decode(&case.ids, true), case.decoded, "{name}: {:?}", case.text);
            assert_eq!(decode(&case.allowed, false), case.decoded_all, "{name}: {:?}", case.text);
        }
        for case in &golden.decoded {
            assert_eq!(decode(&case.ids, true), case.text, "{name}: {:?}", case.ids);
            assert_eq!(decode(&case.ids, false), case.text_all, "{name}: {:?}", case.ids);
        }
    });
}

#[test]
fn long_runs_give_the_reference_ids() {
    each(|name, tokenizer, golden| {
        for case in &golden.long {
            let options = Options { add_special_tokens: false, offsets: false, ..OPTIONS };
            let encoded = one(tokenizer, &case.piece.repeat(case.count), None, options);
            let bytes: Vec<u8> = encoded.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(encoded.ids.len(), case.tokens, "{name}: {:?} × {}", case.piece, case.count);
            assert_eq!(hex::encode(Sha256::digest(bytes)), case.sha256, "{name}: {:?} × {}", case.piece, case.count);
        }
    });
}
