//! What stands beside a model: which tokens are put around a text, and which are found in it.
use crate::engine::formats::{
    Error,
    sentencepiece::{Options, convert},
};
use prost::Message;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
}

fn model(kind: i32, scores: [f32; 3]) -> Vec<u8> {
    let [a, b, c] = scores;
    let pieces =
        [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("\u{2581}a", a, 1), ("ab", b, 1), ("\u{2581}", c, 1), ("a", -8.0, 1), ("b", -9.0, 1)];
    let pieces = pieces.map(|(piece, score, kind)| Piece { text: Some(piece.to_owned()), score: Some(score), kind: Some(kind) });
    Model { pieces: pieces.to_vec(), trainer: Some(Trainer { kind: Some(kind) }) }.encode_to_vec()
}

fn ids(kind: i32, config: &Value, text: &str) -> Vec<u32> {
    let options = Options { tokenizer_config: Some(config), ..Options::default() };
    let converted = convert(&model(kind, [-1.0, -2.0, -3.0]), options).unwrap();
    let tokenizer = Tokenizer::from_bytes(serde_json::to_vec(&converted.json).unwrap()).unwrap();
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn the_class_says_what_is_put_around_a_text() {
    for kind in [1, 2] {
        assert_eq!(ids(kind, &json!({}), "a"), [3]);
        assert_eq!(ids(kind, &json!({"tokenizer_class": "LlamaTokenizer"}), "a"), [1, 3]);
        assert_eq!(ids(kind, &json!({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": false, "add_eos_token": true}), "a"), [3, 2]);
        assert_eq!(ids(kind, &json!({"add_bos_token": true, "bos_token": {"content": "</s>"}}), "a"), [2, 3]);
        assert_eq!(ids(kind, &json!({"tokenizer_class": "T5Tokenizer"}), "a"), [3, 2]);
    }
}

#[test]
fn the_extra_ids_of_t5_follow_the_pieces_backwards() {
    for kind in [1, 2] {
        let config = json!({"tokenizer_class": "T5Tokenizer", "extra_ids": 10});
        assert_eq!(ids(kind, &config, "<extra_id_0>"), [17, 2]);
        assert_eq!(ids(kind, &config, "<extra_id_9>a"), [8, 3, 2]);
    }
}

#[test]
fn added_tokens_keep_their_ids() {
    for kind in [1, 2] {
        let config = json!({"added_tokens_decoder": {
            "0": {"content": "<unk>", "special": true}, "1": {"content": "<s>", "special": true}, "20": {"content": "<|im_start|>", "special": true},
        }});
        assert_eq!(ids(kind, &config, "<|im_start|>a<s>"), [20, 3, 1]);
        let config = json!({"added_tokens_decoder": {"3": {"content": "<new>"}}});
        let options = Options { tokenizer_config: Some(&config), ..Options::default() };
        assert!(matches!(convert(&model(kind, [-1.0, -2.0, -3.0]), options), Err(Error::Config(_))));
    }
}

#[test]
fn what_would_be_wrong_is_refused() {
    let refused = |kind, scores, config: &Value| {
        convert(&model(kind, scores), Options { tokenizer_config: Some(config), ..Options::default() }).unwrap_err().to_string()
    };
    assert!(refused(3, [-1.0, -2.0, -3.0], &json!({})).contains("word model"));
    assert!(refused(4, [-1.0, -2.0, -3.0], &json!({})).contains("character model"));
    assert!(refused(2, [-1.0, -1.0, -3.0], &json!({})).contains("1 pieces have the score of another one"));
    assert!(refused(1, [-1.0, -2.0, -3.0], &json!({"tokenizer_class": "XLMRobertaTokenizer"})).contains("XLMRobertaTokenizer"));
    let converted = convert(&model(2, [-1.0, -1.0, -3.0]), Options { allow_inexact: true, ..Options::default() }).unwrap();
    assert_eq!(converted.differences.len(), 1);
}
