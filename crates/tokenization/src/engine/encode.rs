//! Encodes the texts of a request: special tokens, truncation, padding, offsets.

use super::{
    Tokenizer, Violation,
    offsets::{Span, in_bytes},
    tokenizer::{Frame, Part, Tokens},
    truncation::{Piece, Truncation},
};

/// A text, or a pair.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// The text.
    pub(crate) text: String,
    /// The second text of a pair.
    pub(crate) pair: Option<String>,
}

/// What happens to text that spells a special token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It is text.
    AsText,
    /// It becomes the token.
    Allow,
    /// It is refused.
    Refuse,
    /// It is text, but for the token of this id.
    AllowOne(u32),
}

/// Fills short encodings up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Padding {
    /// The length is a multiple of this.
    pub(crate) multiple_of: usize,
    /// The length is at least this.
    pub(crate) min_tokens: usize,
    /// What fills them.
    pub(crate) pad_id: u32,
    /// Whether they are filled up in front.
    pub(crate) left: bool,
}

/// How a request's texts are encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Whether the tokenizer adds its own special tokens.
    pub(crate) add_special_tokens: bool,
    /// What happens to text that spells one.
    pub(crate) policy: Policy,
    /// Cuts long inputs.
    pub(crate) truncation: Option<Truncation>,
    /// Fills short encodings up.
    pub(crate) padding: Option<Padding>,
    /// Whether to say where tokens stand.
    pub(crate) offsets: bool,
    /// Whether to say which tokens were added.
    pub(crate) special_mask: bool,
    /// The most tokens of all encodings together, padding included.
    pub(crate) max_tokens: usize,
    /// The most bytes that the answer may take.
    pub(crate) max_bytes: usize,
}

/// Bytes that a row of an answer takes in memory and on the wire, before its tokens.
const PER_ROW: usize = 256;

impl Options {
    /// How much work a request is beside its text: what is filled up, and pieces that repeat each other.
    pub(crate) fn beyond_the_text(&self, inputs: usize) -> usize {
        let filled = self.padding.map_or(0, |padding| padding.min_tokens.max(padding.multiple_of).saturating_mul(inputs));
        let repeats = self.truncation.is_some_and(|truncation| truncation.overflow.is_some());
        if repeats { usize::MAX / 2 } else { filled.min(usize::MAX / 2) }
    }

    /// The most bytes that a token takes in an answer: its id, its masks and types, its places.
    fn per_token(&self, pairs: bool) -> usize {
        5 + usize::from(self.padding.is_some()) + usize::from(pairs) + usize::from(self.special_mask) + if self.offsets { 28 } else { 0 }
    }
}

/// The tokens of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// The ids.
    pub(crate) ids: Vec<u32>,
    /// 1 for tokens and 0 for padding; empty without padding.
    pub(crate) attention_mask: Vec<u32>,
    /// 0 and 1 for the texts of a pair; empty without pairs.
    pub(crate) type_ids: Vec<u32>,
    /// Where tokens stand, in bytes; empty unless asked for.
    pub(crate) byte_offsets: Vec<Span>,
    /// The same in characters.
    pub(crate) char_offsets: Vec<Span>,
    /// 1 for tokens that were added and 0 for the text's own; empty unless asked for.
    pub(crate) special_mask: Vec<u32>,
    /// How many tokens were cut off.
    pub(crate) truncated: usize,
    /// The pieces of what was cut off.
    pub(crate) overflow: Vec<Encoded>,
}

/// Encodes one input after the other; `cancelled` is asked before each. None = cancelled.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    inputs: &[Input],
    options: &Options,
    cancelled: impl Fn() -> bool,
) -> Result<Option<Vec<Encoded>>, Violation> {
    let pairs = inputs.iter().any(|input| input.pair.is_some());
    let mut encodings = Vec::with_capacity(inputs.len());
    let mut tally = Tally::new(options, pairs);
    for (index, input) in inputs.iter().enumerate() {
        if cancelled() {
            return Ok(None);
        }
        encodings.push(encode_one(tokenizer, input, index, options, pairs, &mut tally)?);
    }
    if let Some(padding) = options.padding {
        let length = tally.longest.max(padding.min_tokens).next_multiple_of(padding.multiple_of.max(1));
        let field = if padding.min_tokens > tally.longest { "padding.min_tokens" } else { "padding.multiple_of" };
        tally.holds(length.saturating_mul(tally.rows)).map_err(|reason| Violation::new(field, reason))?;
        for encoded in &mut encodings {
            encoded.overflow.iter_mut().for_each(|piece| pad(piece, length, padding, options, pairs));
            pad(encoded, length, padding, options, pairs);
        }
    }
    Ok(Some(encodings))
}

/// How large an answer has become.
#[derive(Debug)]
struct Tally {
    rows: usize,
    tokens: usize,
    longest: usize,
    padded: bool,
    most_tokens: usize,
    most_bytes: usize,
    per_token: usize,
}

impl Tally {
    fn new(options: &Options, pairs: bool) -> Self {
        let (most_tokens, most_bytes, per_token) = (options.max_tokens, options.max_bytes, options.per_token(pairs));
        Self { rows: 0, tokens: 0, longest: 0, padded: options.padding.is_some(), most_tokens, most_bytes, per_token }
    }

    /// How many rows the answer may still have.
    fn rows_left(&self) -> usize {
        (self.most_bytes / PER_ROW).saturating_sub(self.rows)
    }

    /// Counts rows before they are made.
    fn add(&mut self, rows: usize, longest: usize, tokens: usize) -> Result<(), Violation> {
        (self.rows, self.tokens, self.longest) = (self.rows + rows, self.tokens.saturating_add(tokens), self.longest.max(longest));
        let answer = if self.padded { self.longest.saturating_mul(self.rows) } else { self.tokens };
        self.holds(answer).map_err(|reason| Violation::new("inputs", reason))
    }

    /// Whether an answer holds so many tokens, and why not.
    fn holds(&self, tokens: usize) -> Result<(), String> {
        if tokens > self.most_tokens {
            return Err(format!("the encodings have {tokens} tokens or more, padding included: {} is the limit", self.most_tokens));
        }
        let bytes = self.rows.saturating_mul(PER_ROW).saturating_add(tokens.saturating_mul(self.per_token));
        if bytes > self.most_bytes {
            return Err(format!(
                "{} encodings of {tokens} tokens may take {bytes} bytes with what is asked of each: {} is the limit",
                self.rows, self.most_bytes
            ));
        }
        Ok(())
    }
}

/// Counts the tokens of each input. None = cancelled.
pub(crate) fn count(
    tokenizer: &Tokenizer,
    inputs: &[Input],
    add_special_tokens: bool,
    cancelled: impl Fn() -> bool,
) -> Result<Option<Vec<u32>>, Violation> {
    let mut counts = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        if cancelled() {
            return Ok(None);
        }
        let frame = frame(tokenizer, input, index, add_special_tokens)?;
        let members = Members::encode(tokenizer, input, index, Policy::AsText, false)?;
        counts.push((members.length() + frame.added()) as u32);
    }
    Ok(Some(counts))
}

fn frame<'a>(tokenizer: &'a Tokenizer, input: &Input, index: usize, add_special_tokens: bool) -> Result<&'a Frame, Violation> {
    tokenizer
        .frame(input.pair.is_some(), add_special_tokens)
        .map_err(|reason| Violation::new(format!("inputs[{index}]"), format!("the tokenizer does not take it: {reason}")))
}

/// The tokens of an input's texts.
struct Members {
    first: Tokens,
    second: Tokens,
}

impl Members {
    fn encode(tokenizer: &Tokenizer, input: &Input, index: usize, policy: Policy, offsets: bool) -> Result<Self, Violation> {
        let encode = |text: &str| {
            let encoded = match policy {
                Policy::AllowOne(id) => tokenizer.encode_with(text, id),
                _ => tokenizer.encode(text, policy == Policy::Allow, offsets),
            };
            encoded.map_err(|reason| Violation::new(format!("inputs[{index}]"), format!("the tokenizer cannot encode it: {reason}")))
        };
        let second = input.pair.as_deref().map(encode).transpose()?;
        Ok(Self { first: encode(&input.text)?, second: second.unwrap_or_default() })
    }

    fn length(&self) -> usize {
        self.first.ids.len() + self.second.ids.len()
    }

    fn get(&self, member: usize) -> &Tokens {
        if member == 0 { &self.first } else { &self.second }
    }
}

/// Where the tokens of an input's texts stand, in bytes and in characters.
struct Places([(Vec<Span>, Vec<Span>); 2]);

impl Places {
    fn find(members: &Members, input: &Input) -> Self {
        let places = |text: &str, tokens: &Tokens| (in_bytes(text, &tokens.offsets), tokens.offsets.clone());
        Self([places(&input.text, &members.first), places(input.pair.as_deref().unwrap_or_default(), &members.second)])
    }
}

fn encode_one(tokenizer: &Tokenizer, input: &Input, index: usize, options: &Options, pairs: bool, tally: &mut Tally) -> Result<Encoded, Violation> {
    if options.policy == Policy::Refuse {
        refuse_special(tokenizer, &input.text, || format!("inputs[{index}].text"))?;
        if let Some(pair) = &input.pair {
            refuse_special(tokenizer, pair, || format!("inputs[{index}].pair"))?;
        }
    }
    let frame = frame(tokenizer, input, index, options.add_special_tokens)?;
    let mut members = Members::encode(tokenizer, input, index, options.policy, options.offsets)?;
    let lengths = [members.first.ids.len(), members.second.ids.len()];
    let Some(truncation) = &options.truncation else {
        let length = members.length() + frame.added();
        tally.add(1, length, length)?;
        // Most requests want the ids of a text and nothing else: those are there.
        if frame.parts().len() == 1 && !pairs && !options.special_mask && !options.offsets {
            return Ok(Encoded { ids: std::mem::take(&mut members.first.ids), ..Encoded::default() });
        }
        let places = options.offsets.then(|| Places::find(&members, input));
        return Ok(lay(frame, &members, places.as_ref(), &[0..lengths[0], 0..lengths[1]], pairs, options.special_mask));
    };
    let pieces = truncation
        .pieces(lengths, frame.added(), tally.rows_left())
        .map_err(|(field, reason)| Violation::new(field, format!("inputs[{index}]: {reason}")))?;
    let size = |piece: &Piece| piece.iter().map(ExactSizeIterator::len).sum::<usize>() + frame.added();
    tally.add(pieces.len(), pieces.iter().map(size).max().unwrap_or(0), pieces.iter().map(size).sum())?;

    let places = options.offsets.then(|| Places::find(&members, input));
    let lay = |piece: &Piece| lay(frame, &members, places.as_ref(), piece, pairs, options.special_mask);
    let mut pieces = pieces.iter();
    let Some(kept) = pieces.next() else { return Ok(Encoded::default()) };
    let truncated = members.length() + frame.added() - size(kept);
    Ok(Encoded { truncated, overflow: pieces.map(lay).collect(), ..lay(kept) })
}

/// Lays a piece of an input into its frame.
fn lay(frame: &Frame, members: &Members, places: Option<&Places>, piece: &Piece, pairs: bool, special_mask: bool) -> Encoded {
    let mut encoded = Encoded::default();
    encoded.ids.reserve_exact(piece.iter().map(ExactSizeIterator::len).sum::<usize>() + frame.added());
    for part in frame.parts() {
        match *part {
            Part::Added { id, type_id } => {
                encoded.ids.push(id);
                encoded.type_ids.extend(pairs.then_some(type_id));
                encoded.special_mask.extend(special_mask.then_some(1));
                if places.is_some() {
                    encoded.byte_offsets.push((0, 0));
                    encoded.char_offsets.push((0, 0));
                }
            }
            Part::Text { member, type_id } => {
                let range = piece.get(member).cloned().unwrap_or_default();
                let length = range.len();
                encoded.ids.extend_from_slice(members.get(member).ids.get(range.clone()).unwrap_or_default());
                encoded.type_ids.extend(std::iter::repeat_n(type_id, if pairs { length } else { 0 }));
                encoded.special_mask.extend(std::iter::repeat_n(0, if special_mask { length } else { 0 }));
                if let Some((bytes, characters)) = places.and_then(|places| places.0.get(member)) {
                    encoded.byte_offsets.extend_from_slice(bytes.get(range.clone()).unwrap_or_default());
                    encoded.char_offsets.extend_from_slice(characters.get(range).unwrap_or_default());
                }
            }
        }
    }
    encoded
}

fn refuse_special(tokenizer: &Tokenizer, text: &str, field: impl Fn() -> String) -> Result<(), Violation> {
    match tokenizer.find_special(text) {
        None => Ok(()),
        Some((at, special)) => {
            Err(Violation::new(field(), format!("it spells the special token {:?} at byte {at}, and special_tokens is REFUSE", special.content)))
        }
    }
}

fn pad(encoded: &mut Encoded, length: usize, padding: Padding, options: &Options, pairs: bool) {
    let fill = length.saturating_sub(encoded.ids.len());
    let rotate = if padding.left { fill } else { 0 };
    encoded.attention_mask = vec![1; encoded.ids.len()];
    grow(&mut encoded.attention_mask, fill, 0, rotate);
    grow(&mut encoded.ids, fill, padding.pad_id, rotate);
    if pairs {
        grow(&mut encoded.type_ids, fill, 0, rotate);
    }
    if options.special_mask {
        grow(&mut encoded.special_mask, fill, 1, rotate);
    }
    if options.offsets {
        grow(&mut encoded.byte_offsets, fill, (0, 0), rotate);
        grow(&mut encoded.char_offsets, fill, (0, 0), rotate);
    }
}

/// Adds `fill` times `value` at the end, and moves the last `rotate` to the front.
fn grow<T: Copy>(values: &mut Vec<T>, fill: usize, value: T, rotate: usize) {
    values.resize(values.len() + fill, value);
    values.rotate_right(rotate);
}

#[cfg(test)]
mod tests;
