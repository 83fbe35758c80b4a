//! Files that are broken or made to break: an error, never a panic.
use crate::engine::formats::{
    Error, detect,
    sentencepiece::{Options, convert},
    tiktoken::{Pattern, Tiktoken},
};
use proptest::prelude::*;
use prost::Message;

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
struct Normalizer {
    #[prost(bytes = "vec", tag = "2")]
    charsmap: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

/// A converted model must load, and a text must have tokens or an error, without a panic.
fn convert_and_use(model: &[u8], text: &str) {
    let options = Options { allow_inexact: true, ..Options::default() };
    if let Ok(converted) = convert(model, options)
        && let Ok(tokenizer) = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&converted.json).unwrap())
        && let Ok(encoding) = tokenizer.encode(text, true)
    {
        let _ = tokenizer.decode(encoding.get_ids(), true);
    }
}

fn file(lines: &[String]) -> Vec<u8> {
    lines.join("\n").into_bytes()
}

fn bytes() -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    (0..=255_u8).map(|byte| format!("{} {byte}", STANDARD.encode([byte]))).collect()
}

fn refused(lines: &[String]) -> String {
    Tiktoken { pattern: Pattern::Gpt2, special_tokens: vec![] }.convert(&file(lines)).unwrap_err().to_string()
}

#[test]
fn a_broken_tiktoken_line_is_named() {
    assert!(Tiktoken { pattern: Pattern::Gpt2, special_tokens: vec![] }.convert(&file(&bytes())).is_ok());
    let with = |line: &str| {
        let mut lines = bytes();
        lines.push(line.to_owned());
        refused(&lines)
    };
    assert_eq!(with("YWI= 7"), "line 257: the rank 7 has been given before");
    assert_eq!(with("YWI= 400"), "line 257: the rank 400 comes after a gap of 144 ranks");
    assert!(with("YWI= 99999999999").starts_with("line 257: the rank \"99999999999\""));
    assert!(with("Y*I= 256").starts_with("line 257: not base64"));
    assert_eq!(with("YQ== 256"), "line 257: this token has been given a rank before");
    assert!(with("YWI=").starts_with("line 257: not a token and a rank"));
    let mut lines = bytes();
    lines.pop();
    assert!(refused(&lines).starts_with("the byte 0xFF has no rank"));
    let taken = Tiktoken { pattern: Pattern::Gpt2, special_tokens: vec![("<x>".to_owned(), 65)] };
    assert!(matches!(taken.convert(&file(&bytes())), Err(Error::Ranks(_))));
}

fn model() -> impl Strategy<Value = Model> {
    let piece = ("(<0x[0-9A-F]{2}>|[ab\u{2581}<>]{0,3}|<unk>|.{0,2})", any::<f32>(), 0..8_i32).prop_map(|(piece, score, kind)| Piece {
        text: Some(piece),
        score: Some(score),
        kind: Some(kind),
    });
    let unknown = Piece { text: Some("<unk>".to_owned()), score: None, kind: Some(2) };
    (prop::collection::vec(piece, 0..12), 0..4_i32, prop::collection::vec(any::<u8>(), 0..8)).prop_map(move |(mut pieces, kind, charsmap)| {
        pieces.retain(|piece| piece.kind != Some(2) && !matches!(piece.text.as_deref(), Some("<unk>" | "")));
        pieces.sort_by(|a, b| a.text.cmp(&b.text));
        pieces.dedup_by(|a, b| a.text == b.text);
        for piece in &mut pieces {
            piece.score = piece.score.filter(|score| score.is_finite());
        }
        pieces.insert(0, unknown.clone());
        let charsmap = if charsmap.len() < 6 { Vec::new() } else { charsmap };
        Model { pieces, trainer: Some(Trainer { kind: Some(kind) }), normalizer: Some(Normalizer { charsmap }) }
    })
}

/// A charsmap of 256 units and random ones among them: mostly taken, seldom sensible.
fn charsmap() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec((0..512_usize, any::<u32>()), 0..40), ".{0,6}").prop_map(|(units, right)| {
        let mut array = vec![0_u32; 512];
        for (at, unit) in units {
            // Small offsets, small labels: so that some are found.
            array[at] = if at % 2 == 0 { unit & 0x0003_FDFF } else { (at as u32 & 0xFF) | (unit & 0x3FC00) | (unit & 0x100) };
        }
        let mut blob = 2048_u32.to_le_bytes().to_vec();
        blob.extend(array.iter().flat_map(|unit| unit.to_le_bytes()));
        blob.extend(right.bytes());
        blob
    })
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = detect(&bytes);
        let _ = Tiktoken { pattern: Pattern::Llama3, special_tokens: vec![] }.convert(&bytes);
        convert_and_use(&bytes, "a b");
    }

    #[test]
    fn any_model_is_taken_without_a_panic(model in model(), text in "([ab<>\u{2581} ]|<0x41>|.){0,12}") {
        convert_and_use(&model.encode_to_vec(), &text);
    }

    #[test]
    fn any_charsmap_is_taken_without_a_panic(model in model(), charsmap in charsmap(), text in ".{0,12}") {
        let model = Model { normalizer: Some(Normalizer { charsmap }), ..model };
        convert_and_use(&model.encode_to_vec(), &text);
    }

    #[test]
    fn a_cut_model_is_taken_without_a_panic(model in model(), cut in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let mut bytes = model.encode_to_vec();
        let at = bit.index(bytes.len());
        bytes[at] ^= 1 << (at % 8);
        bytes.truncate(cut.index(bytes.len() + 1));
        convert_and_use(&bytes, "a b");
    }
}
