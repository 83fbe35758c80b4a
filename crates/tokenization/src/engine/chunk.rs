//! Cuts a long text into chunks that a model can take.
//!
//! What counts is how many tokens a chunk has when it is encoded by itself, which is what its user will do. The encoding of the
//! whole text only guesses that: cut off from its surroundings, a piece may split otherwise. So the whole is encoded once,
//! each chunk is guessed from it, and every guess is checked by encoding the chunk; one that has too many tokens is shortened
//! in proportion until it fits. A text costs two encodings of itself, and some more where guesses fail, whatever its length.

mod borders;
#[cfg(test)]
mod tests;

use self::borders::Borders;
use super::{
    Tokenizer, Violation,
    offsets::{Span, in_bytes, in_characters},
};

/// Where a chunk may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Boundary {
    /// After a token.
    Token,
    /// After a word.
    Word,
    /// After a sentence.
    Sentence,
    /// After a paragraph.
    Paragraph,
}

/// How texts are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunking {
    /// The most tokens of a chunk, added ones included.
    pub(crate) max_tokens: usize,
    /// How many tokens a chunk repeats of the one before it, about.
    pub(crate) overlap: usize,
    /// Where a chunk may end.
    pub(crate) boundary: Boundary,
    /// Whether the tokens that the tokenizer adds count.
    pub(crate) add_special_tokens: bool,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where it stands, in bytes.
    pub(crate) bytes: Span,
    /// The same in characters.
    pub(crate) characters: Span,
    /// How many tokens it has by itself, added ones included where they count.
    pub(crate) tokens: usize,
}

/// How much longer than the last chunk one may be guessed to be. Where a text has few tokens, or its normaliser drops much of it, the
/// whole rest would be guessed again and again.
const GROWTH: usize = 4;

/// Bytes of a guess beside those of its tokens: the longest characters, as people see them, have some tens.
const LEAST_GUESS: usize = 8;

/// What is guessed at first for each token.
const BYTES_PER_TOKEN: usize = 16;

/// Cuts a text; `holds` is asked whether the answer still holds all chunks together after some more, and `cancelled` before each try.
/// None = cancelled.
pub(crate) fn chunk(
    tokenizer: &Tokenizer,
    text: &str,
    field: &str,
    chunking: &Chunking,
    holds: impl Fn(&[Span]) -> bool,
    cancelled: impl Fn() -> bool,
) -> Result<Option<Vec<Chunk>>, Violation> {
    let refused = |reason: String| Violation::new(field, format!("the tokenizer cannot encode it: {reason}"));
    let added = tokenizer.frame(false, chunking.add_special_tokens).map_err(refused)?.added();
    let budget = chunking.max_tokens.checked_sub(added).filter(|budget| *budget > 0).ok_or_else(|| {
        let reason = format!("{} leaves no room beside the {added} special tokens that the tokenizer adds", chunking.max_tokens);
        Violation::new("max_tokens", reason)
    })?;
    let overlap = chunking.overlap.min(budget / 2);
    let encoded = tokenizer.encode(text, false, true).map_err(refused)?;
    let borders = Borders::new(text, &in_bytes(text, &encoded.offsets), chunking.boundary);
    let count = |from: usize, to: usize| {
        let part = text.get(from..to).unwrap_or_default();
        tokenizer.encode(part, false, false).map(|tokens| tokens.ids.len()).map_err(refused)
    };

    let mut spans: Vec<Span> = Vec::new();
    let mut tokens = Vec::new();
    let (mut from, mut covered) = (0, 0);
    let mut most = budget * BYTES_PER_TOKEN;
    while covered < text.len() {
        let mut to = borders.end(from, budget).min(borders.last_within(from, from + most));
        let length = loop {
            if cancelled() {
                return Ok(None);
            }
            let length = count(from, to)?;
            if length <= budget {
                break length;
            }
            if to == borders.least(from) {
                return Err(too_narrow(text, from, budget));
            }
            // In proportion, and by a character at least.
            to = borders.last_within(from, from + ((to - from) * budget / length).min(to - from - 1));
        };
        // A repeated beginning that leaves no room for anything new is left out.
        if to <= covered && from < covered {
            from = covered;
            continue;
        }
        spans.push((from as u32, to as u32));
        tokens.push(length + added);
        // Not at each, since all are counted.
        if spans.len().is_power_of_two() && !holds(&spans) {
            return Err(Violation::new(field, format!("its first {} chunks are more than an answer holds", spans.len())));
        }
        covered = to;
        most = GROWTH * (to - from).max(budget + LEAST_GUESS);
        from = borders.overlap(from, to, overlap);
    }
    if !holds(&spans) {
        return Err(Violation::new(field, format!("its {} chunks are more than an answer holds", spans.len())));
    }
    let characters = in_characters(text, &spans);
    let chunks = spans.into_iter().zip(characters).zip(tokens);
    Ok(Some(chunks.map(|((bytes, characters), tokens)| Chunk { bytes, characters, tokens }).collect()))
}

fn too_narrow(text: &str, at: usize, budget: usize) -> Violation {
    let character: String = text.get(at..).unwrap_or_default().chars().take(1).collect();
    Violation::new("max_tokens", format!("the character {character:?} at byte {at} has more than the {budget} tokens that a chunk has room for"))
}
