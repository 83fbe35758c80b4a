//! Where a tokenizer puts its special tokens around the texts of an input.
//!
//! Post-processors (BERT's, `RoBERTa`'s, templates) differ in how they are written, not in what they do: they lay tokens
//! of their own before, between and after the texts. So what one does is read off once, at load, from an input of one
//! token; what is laid around any other input is then the same. Truncation needs it apart from the texts anyhow.

use tokenizers::{Encoding, Token};

/// A part of an input's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A special token that the tokenizer adds.
    Added {
        /// Its id.
        id: u32,
        /// The type that models of pairs are told.
        type_id: u32,
    },
    /// All tokens of a text: the first (0) or the second (1).
    Text {
        /// Which.
        member: usize,
        /// The type of each of its tokens.
        type_id: u32,
    },
}

/// What stands around the texts of an input, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Vec<Part>);

impl Frame {
    /// The parts, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// How many special tokens are added.
    pub(crate) fn added(&self) -> usize {
        self.0.iter().filter(|part| matches!(part, Part::Added { .. })).count()
    }
}

/// The frames of a tokenizer.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    single: Result<Frame, String>,
    bare_single: Result<Frame, String>,
    pair: Result<Frame, String>,
    bare_pair: Result<Frame, String>,
}

impl Frames {
    /// Reads the frames of a tokenizer off what it does with inputs of one token.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let read = |pair, add| frame(tokenizer, pair, add);
        Self { single: read(false, true), bare_single: read(false, false), pair: read(true, true), bare_pair: read(true, false) }
    }

    /// What stands around a text or a pair, with the tokenizer's special tokens or without; an error where it takes none.
    pub(super) fn get(&self, pair: bool, add_special_tokens: bool) -> Result<&Frame, String> {
        let frame = match (pair, add_special_tokens) {
            (false, true) => &self.single,
            (false, false) => &self.bare_single,
            (true, true) => &self.pair,
            (true, false) => &self.bare_pair,
        };
        frame.as_ref().map_err(Clone::clone)
    }
}

fn frame(tokenizer: &tokenizers::Tokenizer, pair: bool, add_special_tokens: bool) -> Result<Frame, String> {
    let text = |type_id| Encoding::from_tokens(vec![Token::new(0, "a".to_owned(), (0, 1))], type_id);
    let framed = tokenizer.post_process(text(0), pair.then(|| text(1)), add_special_tokens).map_err(|error| error.to_string())?;
    let parts: Vec<Part> = framed
        .get_ids()
        .iter()
        .zip(framed.get_type_ids())
        .enumerate()
        .map(|(place, (&id, &type_id))| match framed.token_to_sequence(place) {
            Some(member) => Part::Text { member, type_id },
            None => Part::Added { id, type_id },
        })
        .collect();
    let times = |member| parts.iter().filter(|part| matches!(part, Part::Text { member: is, .. } if *is == member)).count();
    if (times(0), times(1)) != (1, usize::from(pair)) {
        return Err(format!("its post-processor does not take {} just once", if pair { "each text of a pair" } else { "a text" }));
    }
    Ok(Frame(parts))
}
