use serde_json::Value;

use super::*;
use crate::engine::samples::{self, TEXTS};

const PLAIN: How = How { add_special_tokens: false, allow_special_tokens: false, offsets: false };

fn load(json: &str) -> Tokenizer {
    Tokenizer::load(json, None).unwrap()
}

fn ids(tokenizer: &Tokenizer, text: &str, how: How) -> Vec<u32> {
    tokenizer.encode(text, None, how).unwrap().ids().to_vec()
}

#[test]
fn text_never_becomes_a_special_token() {
    for (name, tokenizer) in samples::all() {
        let unknown = ["<unk>", "[UNK]", "<pad>"].map(|token| tokenizer.full.token_to_id(token));
        let spelled: Vec<_> = tokenizer.specials().iter().map(|special| format!("{0} x{0}y {0}{0}", special.content)).collect();
        let spelled = spelled.concat();
        for text in TEXTS.into_iter().chain([spelled.as_str()]) {
            for id in ids(&tokenizer, text, PLAIN) {
                let special = tokenizer.detokenizer().is_special(id) && !unknown.contains(&Some(id));
                assert!(!special, "{name}: {text:?} became the special token {id}");
            }
        }
    }
}

#[test]
fn the_unknown_token_cannot_be_spelled_but_is_still_said() {
    let tokenizer = load(&samples::unigram(&Value::Null));
    assert_eq!(ids(&tokenizer, "</s>", PLAIN).len(), 5, "▁ < / s >");
    assert!(!ids(&tokenizer, "s", PLAIN).contains(&0) && ids(&tokenizer, "☃", PLAIN).contains(&0));
    let tokenizer = load(&samples::word_piece());
    assert_eq!(ids(&tokenizer, "[SEP] ☃ hello", PLAIN), [13, 14, 15, 16, 17, 1, 4]);
}

#[test]
fn allowed_special_tokens_are_found() {
    let allow = How { allow_special_tokens: true, ..PLAIN };
    let tokenizer = load(&samples::byte_level());
    let end = tokenizer.specials()[0].id;
    assert_eq!(ids(&tokenizer, "<|endoftext|>", allow), [end]);
    assert_eq!(ids(&tokenizer, "⟨word⟩<|endoftext|>", allow), [end + 1, end]);
    assert_eq!(tokenizer.detokenizer().decode(&ids(&tokenizer, "<|endoftext|>", PLAIN), true).unwrap(), "<|endoftext|>");
}

#[test]
fn added_tokens_that_are_not_special_keep_their_ids() {
    let tokenizer = load(&samples::byte_level());
    let word = tokenizer.full.token_to_id("⟨word⟩").unwrap();
    assert_eq!(ids(&tokenizer, "⟨word⟩", PLAIN), [word]);
    assert!(ids(&tokenizer, "<|endoftext|>⟨word⟩", PLAIN).ends_with(&[word]));
}

#[test]
fn a_special_token_is_found_at_its_byte() {
    let tokenizer = load(&samples::byte_level());
    let (at, special) = tokenizer.find_special("日本 <|endoftext|>").unwrap();
    assert_eq!((at, special.content.as_str()), (7, "<|endoftext|>"));
    assert_eq!(tokenizer.find_special("<|endoftex|> ⟨word⟩"), None);
}

#[test]
fn a_special_token_that_takes_in_blanks_is_found_where_it_is_written() {
    let json = samples::byte_level().replacen("\"lstrip\":false", "\"lstrip\":true", 1);
    let (at, _) = load(&json).find_special("ab   <|endoftext|>").map(|(at, special)| (at, special.id)).unwrap();
    assert_eq!(at, 5);
}

#[test]
fn fixed_lengths_in_the_file_do_not_bind_requests() {
    let truncation = r#""truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}"#;
    let padding = r#""padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":1,"pad_type_id":0,"pad_token":"x"}"#;
    let json = samples::byte_level().replace("\"truncation\":null", truncation).replace("\"padding\":null", padding);
    let tokenizer = load(&json);
    assert_eq!(ids(&tokenizer, "abcd", PLAIN).len(), 4);
    assert_eq!(tokenizer.pad_id(), Some(1));
}

#[test]
fn the_configuration_beside_the_file_is_read() {
    let with = |config: &str| Tokenizer::load(&samples::word_piece(), Some(config)).unwrap();
    let configured = with(r#"{"model_max_length": 512, "pad_token": {"content": "[UNK]"}}"#);
    assert_eq!((configured.max_length(), configured.pad_id()), (Some(512), Some(1)));
    assert_eq!(with(r#"{"model_max_length": 1000000000000000019884624838656}"#).max_length(), None);
    assert_eq!(with(r#"{"model_max_length": 512, "pad_token": "[PAD]"}"#).pad_id(), Some(0));
    assert_eq!(load(&samples::byte_level()).pad_id(), None);
    assert!(Tokenizer::load(&samples::word_piece(), Some("{")).unwrap_err().contains("tokenizer_config.json"));
    assert!(Tokenizer::load("{}", None).is_err());
}

#[test]
fn members_enclose_their_tokens() {
    for (name, tokenizer) in samples::all() {
        let how = How { add_special_tokens: true, ..PLAIN };
        for (text, pair) in [("hello and", "and"), ("", "hello"), ("hello", ""), ("", "")] {
            let pair_tokens = tokenizer.encode(text, Some(pair), how).unwrap();
            let alone = [text, pair].map(|text| tokenizer.encode(text, None, PLAIN).unwrap().ids().to_vec());
            for (member, alone) in alone.iter().enumerate() {
                assert_eq!(pair_tokens.ids()[pair_tokens.member(member)], *alone, "{name}: {text:?} {pair:?} {member}");
            }
            let single = tokenizer.encode(text, None, how).unwrap();
            assert_eq!(single.ids()[single.member(0)], alone[0], "{name}: {text:?}");
        }
    }
}

/// The golden values hold longer ones for the embedded tokenizers.
#[test]
fn long_runs_are_encoded() {
    for (name, tokenizer) in samples::all() {
        for piece in [" ", "\n", "a", "日", "x ", "1", "'", " \n"] {
            let text = piece.repeat((1 << 14) / piece.len());
            let encoded = ids(&tokenizer, &text, PLAIN);
            assert!(!encoded.is_empty() || text.trim().is_empty() || name == "ctc", "{name}: {piece:?}");
        }
    }
}

impl Tokenizer {
    /// What the crate itself decodes.
    pub(crate) fn decode_whole(&self, ids: &[u32], skip: bool) -> String {
        let kept: Vec<u32> = ids.iter().copied().filter(|&id| !(skip && self.detokenizer.is_special(id))).collect();
        // Its decoder for word ends counts down from the number of tokens.
        if kept.is_empty() { String::new() } else { self.full.decode(ids, skip).unwrap() }
    }
}
