use std::{cmp::Reverse, collections::HashMap};

use serde_json::{Map, Value, json};

use super::{
    pieces::{Piece, Pieces},
    proto::Type,
};
use crate::engine::formats::Error;

/// The most bytes of all merges; they can grow with the square of the file.
const MAX_BYTES: usize = 1 << 27;

/// The BPE model. `SentencePiece` joins the two neighbours whose joined text is the piece of the highest score, the left ones
/// first, so every way to cut a piece in two is a merge.
pub(super) fn model(pieces: &Pieces, byte_fallback: bool) -> Result<Value, Error> {
    let merges = merges(pieces)?;
    let vocab: Map<String, Value> = pieces.iter().map(|(id, piece)| (piece.text.clone(), id.into())).collect();
    Ok(json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": pieces.unknown().1,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": byte_fallback,
        // User-defined pieces stand alone before the model sees them, and no merge makes them.
        "ignore_merges": pieces.of_kind(Type::UserDefined).next().is_some(),
        "vocab": vocab,
        "merges": merges,
    }))
}

fn merges(pieces: &Pieces) -> Result<Vec<Value>, Error> {
    let mut bytes = 0_usize;
    let mut normal: Vec<_> = pieces.of_kind(Type::Normal).collect();
    normal.sort_by(|(a, x), (b, y)| y.score.total_cmp(&x.score).then(a.cmp(b)));
    let mut merges = Vec::with_capacity(normal.len());
    for (_, piece) in normal {
        let mut found: Vec<_> = cuts(&piece.text).filter(|(left, right)| is_merged(pieces, left) && is_merged(pieces, right)).collect();
        bytes += found.len() * piece.text.len();
        if bytes > MAX_BYTES {
            return Err(Error::Unsupported("its pieces can be put together in too many ways".to_owned()));
        }
        // Of a run of one character the longer parts are at the left, for the left ones were joined first.
        found.sort_by_key(|(left, _)| Reverse(left.len()));
        merges.extend(found.into_iter().map(|(left, right)| json!([left, right])));
    }
    Ok(merges)
}

fn is_merged(pieces: &Pieces, text: &str) -> bool {
    pieces.get(text).is_some_and(|(_, piece)| piece.kind == Type::Normal)
}

fn cuts(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.char_indices().skip(1).filter_map(|(at, _)| text.split_at_checked(at))
}

/// Where the merges do not say what `SentencePiece` does.
pub(super) fn differences(pieces: &Pieces) -> Vec<String> {
    let mut differences = Vec::new();
    let joined = |piece: &Piece| piece.kind == Type::Normal && piece.text.chars().nth(1).is_some();
    let mut scores: HashMap<u32, &str> = HashMap::new();
    let mut equal = 0_usize;
    let mut example = None;
    for (_, piece) in pieces.iter().filter(|(_, piece)| joined(piece)) {
        // Minus zero is zero.
        if let Some(other) = scores.insert((piece.score + 0.0).to_bits(), &piece.text) {
            equal += 1;
            example.get_or_insert((other, &piece.text));
        }
    }
    if let Some((one, other)) = example {
        differences.push(format!(
            "{equal} pieces have the score of another one, such as {one:?} and {other:?}: SentencePiece then joins what is further left, \
             a tokenizer.json what has the lower id"
        ));
    }
    let lacking = |text: &str| text.chars().nth(1).is_none() && pieces.get(text).is_none();
    let known = |text: &str| is_merged(pieces, text) || lacking(text);
    let unreachable: Vec<_> = pieces
        .iter()
        .filter(|(_, piece)| joined(piece))
        .filter(|(_, piece)| cuts(&piece.text).any(|(left, right)| known(left) && known(right) && (lacking(left) || lacking(right))))
        .map(|(_, piece)| &piece.text)
        .collect();
    if let Some(example) = unreachable.first() {
        differences.push(format!(
            "{} pieces have a character that is no piece, such as {example:?}: SentencePiece can join it, a tokenizer.json cannot",
            unreachable.len()
        ));
    }
    if pieces.of_kind(Type::Unused).next().is_some() {
        differences.push("there are unused pieces, which SentencePiece takes apart again after the merges".to_owned());
    }
    differences
}

/// The pieces that `SentencePiece` makes of `text`, none of it user-defined.
pub(super) fn encode<'a>(pieces: &Pieces, text: &'a str) -> Vec<&'a str> {
    let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    starts.push(text.len());
    loop {
        let best = starts
            .windows(3)
            .enumerate()
            .filter_map(|(index, window)| {
                let [start, _, end] = window else { return None };
                let (_, piece) = pieces.get(text.get(*start..*end)?)?;
                (piece.kind == Type::Normal).then_some((piece.score, index))
            })
            .max_by(|(a, i), (b, j)| a.total_cmp(b).then(j.cmp(i)));
        let Some((_, index)) = best else { break };
        starts.remove(index + 1);
    }
    starts.windows(2).filter_map(|window| if let [start, end] = window { text.get(*start..*end) } else { None }).collect()
}
