//! From ids to text, whole or as they come.
//!
//! Text is put together from the bytes that each id adds, and bytes become characters from left to right, each longest
//! piece that is no UTF-8 turning into one U+FFFD. Both depend only on what came before, so a stream gives what
//! the whole gives: [`Detokenizer::decode`] is a stream of one step.

mod stream;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use stream::Stream;

/// The bytes that one id adds to a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// As the first token.
    pub(crate) first: Vec<u8>,
    /// After another token.
    pub(crate) rest: Vec<u8>,
    /// As the last token, where that makes a difference.
    pub(crate) last: Option<Vec<u8>>,
    /// Whether nothing is taken off it, nor off what follows, even at the start of a text.
    pub(crate) ends_edge: bool,
}

impl Piece {
    /// A piece that is the same everywhere.
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        Self { first: bytes.clone(), rest: bytes, last: None, ends_edge: false }
    }
}

/// What is taken off the start of a text: this character, as often as it stands there, but not more often than told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    /// The character.
    pub(crate) content: char,
    /// How often at most.
    pub(crate) at_most: usize,
}

/// Decodes all ids at once.
type Whole = Box<dyn Fn(&[u32]) -> Result<String, String> + Send + Sync>;

/// What each id becomes.
pub(crate) struct Detokenizer {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    edge: Option<Edge>,
    /// Whether some id is another as the last one, so that the last one must be held back.
    holds_last: bool,
    whole: Option<Whole>,
}

#[derive(Debug)]
struct Entry {
    first: Range<u32>,
    rest: Range<u32>,
    last: Range<u32>,
    special: bool,
    ends_edge: bool,
}

impl Detokenizer {
    /// A table of the pieces of ids 0, 1, 2 and so on, and which are special tokens.
    pub(crate) fn new(pieces: &[(Piece, bool)], edge: Option<Edge>) -> Self {
        let mut bytes = Vec::new();
        let mut place = |piece: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(piece);
            start..bytes.len() as u32
        };
        let holds_last = pieces.iter().any(|(piece, _)| piece.last.is_some());
        let entries = pieces.iter().map(|(piece, special)| {
            let rest = place(&piece.rest);
            let first = if piece.first == piece.rest { rest.clone() } else { place(&piece.first) };
            let last = piece.last.as_ref().map_or_else(|| rest.clone(), |last| place(last));
            Entry { first, rest, last, special: *special, ends_edge: piece.ends_edge }
        });
        let entries = entries.collect();
        Self { bytes, entries, edge, holds_last, whole: None }
    }

    /// Decodes with `whole` what no table can hold; streams then give all their text at the end.
    pub(crate) fn whole(mut self, whole: Whole) -> Self {
        self.whole = Some(whole);
        self
    }

    /// Number of ids.
    pub(crate) fn size(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Whether an id is a special token.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.entries.get(id as usize).is_some_and(|entry| entry.special)
    }

    /// The bytes an id adds to a text that has tokens already; none for an id that no token has.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.entries.get(id as usize).map_or(&[], |entry| self.slice(&entry.rest))
    }

    /// The bytes that ids add up to. Their text may have up to three times as many: each byte that is no UTF-8
    /// may become a U+FFFD.
    pub(crate) fn length(&self, ids: &[u32]) -> usize {
        ids.iter().map(|&id| self.bytes(id).len()).sum()
    }

    /// Whether a stream gives text only at its end, and so has to hold all ids.
    pub(crate) fn holds_all(&self) -> bool {
        self.whole.is_some()
    }

    /// The text of ids.
    pub(crate) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, String> {
        let mut stream = Stream::new(skip_special_tokens);
        let mut text = stream.push(self, ids);
        text.push_str(&stream.finish(self)?);
        Ok(text)
    }

    /// The bytes of ids: the text before what is no UTF-8 in it becomes U+FFFD.
    pub(crate) fn decode_bytes(&self, ids: &[u32], skip_special_tokens: bool) -> Result<Vec<u8>, String> {
        Stream::new(skip_special_tokens).bytes(self, ids)
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}
