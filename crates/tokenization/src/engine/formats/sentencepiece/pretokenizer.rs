use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::{bpe, pieces::Pieces, proto::Type, regex};
use crate::engine::formats::Error;

/// The most look-ups for what the merges make of the pieces themselves; Gemma's quarter of a million need 2^24.
const MAX_WORK: usize = 1 << 27;

/// The pre-tokenizer: it cuts the normalized text where no piece may span, or `null`.
pub(super) fn bpe(pieces: &Pieces) -> Result<(Value, Vec<String>), Error> {
    let user_defined = pieces.user_defined();
    if user_defined.is_empty() {
        return Ok((Value::Null, Vec::new()));
    }
    let work: usize = pieces.iter().map(|(_, piece)| piece.text.chars().count().pow(2)).sum();
    if work > MAX_WORK {
        return Err(Error::Unsupported("beside user-defined pieces, its pieces are too long".to_owned()));
    }
    let symbols: Vec<_> = user_defined.iter().map(|text| regex::escape(text)).collect();
    // What stands alone and has the name of a piece becomes that piece without any merge. Where the merges would not make it,
    // its first part is cut off.
    let mut differences = Vec::new();
    let mut cuts = Vec::new();
    for (_, piece) in pieces.iter().filter(|(_, piece)| piece.kind != Type::UserDefined) {
        let parts = bpe::encode(pieces, &piece.text);
        let [first, rest @ ..] = parts.as_slice() else { continue };
        if rest.is_empty() {
            continue;
        }
        let remainder = rest.concat();
        if rest.len() > 1 && pieces.get(&remainder).is_some() {
            differences.push(format!("beside user-defined pieces, {:?} cannot be kept from being one piece", piece.text));
        }
        cuts.push(format!("{}(?={}\\z)", regex::escape(first), regex::escape(&remainder)));
    }
    if cuts.len() > 4096 {
        differences.push(format!("beside user-defined pieces, {} pieces cannot be kept whole", cuts.len()));
    }
    let mut steps = vec![split(&symbols.join("|"))];
    if !cuts.is_empty() {
        steps.push(split(&format!("\\A(?:{})", cuts.join("|"))));
    }
    Ok((json!({"type": "Sequence", "pretokenizers": steps}), differences))
}

/// tokenizers' Unigram matches the names of all pieces in the text, `SentencePiece` only those of normal and user-defined
/// ones. The others' names are cut at a place that no matched piece spans, which changes nothing else.
pub(super) fn unigram(pieces: &Pieces, byte_fallback: bool) -> (Value, Vec<String>) {
    let is_matched = |kind| matches!(kind, Type::Normal | Type::UserDefined);
    let matched = || pieces.iter().filter(|(_, piece)| is_matched(piece.kind));
    let pairs: HashSet<(char, char)> = matched().flat_map(|(_, piece)| piece.text.chars().zip(piece.text.chars().skip(1))).collect();
    let single: HashSet<char> = matched().filter_map(|(_, piece)| only(&piece.text)).collect();
    // Two unknown characters would be one unknown piece.
    let can_cut = |a: char, b: char| !pairs.contains(&(a, b)) && (byte_fallback || single.contains(&a) || single.contains(&b));
    let mut cuts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut differences = Vec::new();
    for (_, piece) in pieces.iter().filter(|(_, piece)| matches!(piece.kind, Type::Unknown | Type::Control | Type::Byte)) {
        let text = piece.text.as_str();
        let place = text.char_indices().zip(text.char_indices().skip(1)).find(|((_, a), (_, b))| can_cut(*a, *b)).map(|(_, (at, _))| at);
        match place.and_then(|at| text.split_at_checked(at)) {
            Some((left, right)) => cuts.entry(left).or_default().push(right),
            // A control symbol is found in the text before the model sees it.
            None if piece.kind == Type::Control => {}
            // Of unknown characters alone it is one unknown piece either way.
            None if piece.kind == Type::Unknown && !text.chars().any(|character| single.contains(&character)) => {}
            None => differences.push(format!("{text:?} in a text cannot be kept from being that piece")),
        }
    }
    if cuts.is_empty() {
        return (Value::Null, differences);
    }
    let patterns: Vec<_> = cuts
        .into_iter()
        .map(|(left, rights)| {
            let rights: Vec<_> = rights.into_iter().map(regex::escape).collect();
            format!("(?<={})(?={})", regex::escape(left), rights.join("|"))
        })
        .collect();
    (split(&patterns.join("|")), differences)
}

fn only(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.as_str().is_empty())
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}
