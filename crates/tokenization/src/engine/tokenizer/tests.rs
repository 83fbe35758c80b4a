use serde_json::Value;

use super::*;
use crate::engine::samples::{self, TEXTS, load};

/// The ids of a text that is nothing but text.
fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false, false).unwrap().ids
}

/// The ids of a text that may spell special tokens.
fn allowed(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true, false).unwrap().ids
}

#[test]
fn text_never_becomes_a_special_token() {
    for (name, tokenizer) in samples::all() {
        let unknown = ["<unk>", "[UNK]", "<pad>"].map(|token| tokenizer.full.token_to_id(token));
        let spelled: Vec<_> = tokenizer.specials().iter().map(|special| format!("{0} x{0}y {0}{0}", special.content)).collect();
        let spelled = spelled.concat();
        for text in TEXTS.into_iter().chain([spelled.as_str()]) {
            for id in ids(tokenizer, text) {
                let special = tokenizer.detokenizer().is_special(id) && !unknown.contains(&Some(id));
                assert!(!special, "{name}: {text:?} became the special token {id}");
            }
        }
    }
}

#[test]
fn the_unknown_token_cannot_be_spelled_but_is_still_said() {
    let tokenizer = load(&samples::unigram(&Value::Null));
    assert_eq!(ids(&tokenizer, "</s>").len(), 5, "▁ < / s >");
    assert!(!ids(&tokenizer, "s").contains(&0) && ids(&tokenizer, "☃").contains(&0));
    let tokenizer = load(&samples::word_piece());
    assert_eq!(ids(&tokenizer, "[SEP] ☃ hello"), [13, 14, 15, 16, 17, 1, 4]);
}

#[test]
fn one_special_token_may_be_spelled_where_the_others_are_text() {
    for (name, tokenizer) in samples::all() {
        for allowed in tokenizer.specials() {
            let spelled: Vec<_> = tokenizer.specials().iter().map(|special| special.content.as_str()).collect();
            let text = format!("x {} y", spelled.join(" z "));
            let ids = tokenizer.encode_with(&text, allowed.id).unwrap().ids;
            // What stands for unknown pieces comes of other texts too.
            let elsewhere = tokenizer.encode(&text, false, false).unwrap().ids.contains(&allowed.id);
            if elsewhere {
                assert!(ids.contains(&allowed.id), "{name}: {text:?}, {}", allowed.content);
                continue;
            }
            assert_eq!(ids.iter().filter(|id| **id == allowed.id).count(), 1, "{name}: {text:?}, {}", allowed.content);
            let alone = tokenizer.encode_with("x y", allowed.id).unwrap();
            assert_eq!(alone, tokenizer.encode("x y", false, false).unwrap(), "{name}");
        }
    }
}

#[test]
fn allowed_special_tokens_are_found() {
    let tokenizer = load(&samples::byte_level());
    let end = tokenizer.specials()[0].id;
    assert_eq!(allowed(&tokenizer, "<|endoftext|>"), [end]);
    assert_eq!(allowed(&tokenizer, "⟨word⟩<|endoftext|>"), [end + 1, end]);
    assert_eq!(tokenizer.detokenizer().decode(&ids(&tokenizer, "<|endoftext|>"), true).unwrap(), "<|endoftext|>");
}

#[test]
fn added_tokens_that_are_not_special_keep_their_ids() {
    let tokenizer = load(&samples::byte_level());
    let word = tokenizer.full.token_to_id("⟨word⟩").unwrap();
    assert_eq!(ids(&tokenizer, "⟨word⟩"), [word]);
    assert!(ids(&tokenizer, "<|endoftext|>⟨word⟩").ends_with(&[word]));
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
    assert_eq!(ids(&tokenizer, "abcd").len(), 4);
    assert_eq!(tokenizer.pad_id(), Some(1));
}

#[test]
fn the_configuration_beside_the_file_is_read() {
    let with = |config: &str| Tokenizer::load(&samples::word_piece(), &serde_json::from_str(config).unwrap()).unwrap();
    let configured = with(r#"{"model_max_length": 512, "pad_token": {"content": "[UNK]"}}"#);
    assert_eq!((configured.max_length(), configured.pad_id()), (Some(512), Some(1)));
    assert_eq!(with(r#"{"model_max_length": 1000000000000000019884624838656}"#).max_length(), None);
    assert_eq!(with(r#"{"model_max_length": 512, "pad_token": "[PAD]"}"#).pad_id(), Some(0));
    assert_eq!(load(&samples::byte_level()).pad_id(), None);
    let sides = with(r#"{"padding_side": "left", "truncation_side": "left"}"#);
    assert!(sides.pads_left() && sides.cuts_left() && !configured.pads_left() && !configured.cuts_left());
    assert!(Tokenizer::load("{}", &Value::Null).is_err());
}

/// What the crate itself lays around texts is what a frame says.
#[test]
fn frames_are_those_of_the_crate() {
    for (name, tokenizer) in samples::all() {
        for (text, pair) in [("hello and", Some("and")), ("", Some("hello")), ("hello", Some("")), ("", Some("")), ("hello", None), ("", None)] {
            for add in [true, false] {
                let whole = match pair {
                    Some(pair) => tokenizer.literal.encode((text, pair), add),
                    None => tokenizer.literal.encode(text, add),
                };
                let (mut laid, mut types) = (Vec::new(), Vec::new());
                for part in tokenizer.frame(pair.is_some(), add).unwrap().parts() {
                    let (own, type_id) = match *part {
                        Part::Added { id, type_id } => (vec![id], type_id),
                        Part::Text { member, type_id } => (ids(tokenizer, [text, pair.unwrap_or_default()][member]), type_id),
                    };
                    types.extend(std::iter::repeat_n(type_id, own.len()));
                    laid.extend(own);
                }
                let whole = whole.unwrap();
                assert_eq!((whole.get_ids(), whole.get_type_ids()), (laid.as_slice(), types.as_slice()), "{name}: {text:?} {pair:?} {add}");
            }
        }
    }
}

/// The embedded tokenizers and the common kinds are fast; what the fast encoder cannot do falls back by itself.
#[test]
fn the_fast_encoder_takes_what_it_can() {
    let slow: Vec<&str> = samples::all().iter().filter(|(_, tokenizer)| !tokenizer.is_fast()).map(|(name, _)| name.as_str()).collect();
    // Ends of words are not among the fast one's parts.
    assert_eq!(slow, ["word-ends"]);
}

#[test]
fn both_encoders_agree_on_every_text() {
    for (name, tokenizer) in samples::all() {
        for text in TEXTS {
            for allow in [true, false] {
                let both = [false, true]
                    .map(|complete| if complete { tokenizer.complete(text, allow, false) } else { tokenizer.encode(text, allow, false) });
                assert_eq!(both[0], both[1], "{name}: {text:?}");
            }
        }
    }
}

/// The golden values hold longer ones for the embedded tokenizers.
#[test]
fn long_runs_are_encoded() {
    for (name, tokenizer) in samples::all() {
        for piece in [" ", "\n", "a", "日", "x ", "1", "'", " \n"] {
            let text = piece.repeat((1 << 14) / piece.len());
            let encoded = ids(tokenizer, &text);
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
