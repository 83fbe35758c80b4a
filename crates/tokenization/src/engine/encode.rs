//! Encodes the texts of a request: special tokens, truncation, padding, offsets.

use super::{
    How, Tokenizer, Violation,
    offsets::{Span, in_characters, on_borders},
    tokenizer::Tokens,
    truncation,
};

/// A text, or a pair.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// The text.
    pub(crate) text: String,
    /// The second text of a pair.
    pub(crate) pair: Option<String>,
}

impl Input {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.pair.as_ref().map_or(0, String::len)
    }
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
}

/// Cuts long inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truncation {
    /// The most tokens of an encoding.
    pub(crate) max_tokens: usize,
    /// Whether the beginning is cut.
    pub(crate) left: bool,
}

/// Fills short encodings up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Padding {
    /// The length is a multiple of this.
    pub(crate) multiple_of: usize,
    /// What fills them.
    pub(crate) pad_id: u32,
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
    /// The most tokens of all encodings together, padding included.
    pub(crate) max_tokens: usize,
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
    /// How many tokens were cut off.
    pub(crate) truncated: usize,
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
    let (mut total, mut longest) = (0, 0);
    for (index, input) in inputs.iter().enumerate() {
        if cancelled() {
            return Ok(None);
        }
        let encoded = encode_one(tokenizer, input, index, options, pairs)?;
        total += encoded.ids.len();
        longest = longest.max(encoded.ids.len());
        let answer = if options.padding.is_some() { longest.saturating_mul(inputs.len()) } else { total };
        if answer > options.max_tokens {
            let limit = options.max_tokens;
            return Err(Violation::new("inputs", format!("the encodings have {answer} tokens or more, padding included: {limit} is the limit")));
        }
        encodings.push(encoded);
    }
    if let Some(padding) = options.padding {
        let length = longest.next_multiple_of(padding.multiple_of.max(1));
        if length.saturating_mul(inputs.len()) > options.max_tokens {
            let limit = options.max_tokens;
            return Err(Violation::new("padding.multiple_of", format!("{} encodings of {length} tokens: {limit} tokens is the limit", inputs.len())));
        }
        for encoded in &mut encodings {
            pad(encoded, length, padding.pad_id);
        }
    }
    Ok(Some(encodings))
}

/// Counts the tokens of each input. None = cancelled.
pub(crate) fn count(
    tokenizer: &Tokenizer,
    inputs: &[Input],
    add_special_tokens: bool,
    cancelled: impl Fn() -> bool,
) -> Result<Option<Vec<u32>>, Violation> {
    let how = How { add_special_tokens, allow_special_tokens: false, offsets: false };
    let mut counts = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        if cancelled() {
            return Ok(None);
        }
        counts.push(tokens(tokenizer, input, index, how)?.ids().len() as u32);
    }
    Ok(Some(counts))
}

fn tokens(tokenizer: &Tokenizer, input: &Input, index: usize, how: How) -> Result<Tokens, Violation> {
    tokenizer
        .encode(&input.text, input.pair.as_deref(), how)
        .map_err(|reason| Violation::new(format!("inputs[{index}]"), format!("the tokenizer cannot encode it: {reason}")))
}

fn encode_one(tokenizer: &Tokenizer, input: &Input, index: usize, options: &Options, pairs: bool) -> Result<Encoded, Violation> {
    if options.policy == Policy::Refuse {
        refuse_special(tokenizer, &input.text, || format!("inputs[{index}].text"))?;
        if let Some(pair) = &input.pair {
            refuse_special(tokenizer, pair, || format!("inputs[{index}].pair"))?;
        }
    }
    let how = How { add_special_tokens: options.add_special_tokens, allow_special_tokens: options.policy == Policy::Allow, offsets: options.offsets };
    let tokens = tokens(tokenizer, input, index, how)?;
    let mut encoded = Encoded { ids: tokens.ids().to_vec(), ..Encoded::default() };
    if pairs {
        encoded.type_ids = tokens.type_ids().to_vec();
    }
    if options.offsets {
        locate(&mut encoded, &tokens, input);
    }
    if let Some(truncation) = options.truncation
        && encoded.ids.len() > truncation.max_tokens
    {
        truncate(&mut encoded, &tokens, input.pair.is_some(), truncation)?;
    }
    Ok(encoded)
}

fn refuse_special(tokenizer: &Tokenizer, text: &str, field: impl Fn() -> String) -> Result<(), Violation> {
    match tokenizer.find_special(text) {
        None => Ok(()),
        Some((at, special)) => {
            Err(Violation::new(field(), format!("it spells the special token {:?} at byte {at}, and special_tokens is REFUSE", special.content)))
        }
    }
}

/// Fills in the offsets, each in the text of its member of the pair; added tokens have (0, 0).
fn locate(encoded: &mut Encoded, tokens: &Tokens, input: &Input) {
    let length = encoded.ids.len();
    encoded.byte_offsets = vec![(0, 0); length];
    encoded.char_offsets = vec![(0, 0); length];
    for (member, text) in [Some(&input.text), input.pair.as_ref()].into_iter().enumerate() {
        let (Some(text), range) = (text, tokens.member(member)) else { continue };
        let bytes = on_borders(text, tokens.offsets().get(range.clone()).unwrap_or_default());
        let characters = in_characters(text, &bytes);
        for (all, own) in [(&mut encoded.byte_offsets, bytes), (&mut encoded.char_offsets, characters)] {
            if let Some(all) = all.get_mut(range.clone()) {
                all.copy_from_slice(&own);
            }
        }
    }
}

fn truncate(encoded: &mut Encoded, tokens: &Tokens, pair: bool, truncation: Truncation) -> Result<(), Violation> {
    let members = [tokens.member(0), if pair { tokens.member(1) } else { 0..0 }];
    let [first, second] = &members;
    let length = encoded.ids.len();
    let added = length - first.len() - second.len();
    let Some(budget) = truncation.max_tokens.checked_sub(added) else {
        let reason = format!("{} leaves no room for the {added} special tokens that the tokenizer adds", truncation.max_tokens);
        return Err(Violation::new("truncation.max_tokens", reason));
    };
    let (keep_first, keep_second) = truncation::kept(first.len(), second.len(), budget);
    let parts = [truncation::part(first, keep_first, truncation.left), truncation::part(second, keep_second, truncation.left)];
    let stays: Vec<bool> =
        (0..length).map(|token| members.iter().zip(&parts).all(|(member, part)| !member.contains(&token) || part.contains(&token))).collect();
    encoded.truncated = length - added - keep_first - keep_second;
    retain(&mut encoded.ids, &stays);
    retain(&mut encoded.type_ids, &stays);
    retain(&mut encoded.byte_offsets, &stays);
    retain(&mut encoded.char_offsets, &stays);
    Ok(())
}

fn retain<T>(values: &mut Vec<T>, stays: &[bool]) {
    let mut stays = stays.iter();
    values.retain(|_| stays.next().copied().unwrap_or(false));
}

fn pad(encoded: &mut Encoded, length: usize, pad_id: u32) {
    encoded.attention_mask = vec![1; encoded.ids.len()];
    encoded.attention_mask.resize(length, 0);
    encoded.ids.resize(length, pad_id);
    if !encoded.type_ids.is_empty() {
        encoded.type_ids.resize(length, 0);
    }
    if !encoded.byte_offsets.is_empty() {
        encoded.byte_offsets.resize(length, (0, 0));
        encoded.char_offsets.resize(length, (0, 0));
    }
}

#[cfg(test)]
mod tests;
