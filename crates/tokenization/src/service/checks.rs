//! What a request may ask for; everything wrong is found before anything is worked on.

use quintet_proto::tokenization::v1::{EncodeRequest, SpecialTokenPolicy, TruncationSide};
use quintet_serving::error::Checks;

use super::Limits;
use crate::{
    Error,
    engine::{Detokenizer, Input, Options, Padding, Policy, Tokenizer, Truncation},
};

/// Lengths are rounded up to a multiple of this at most.
const MAX_MULTIPLE: u32 = 4096;

/// An input is as much work as this many bytes before its first one.
const PER_INPUT: usize = 32;

/// How many faults of one kind are named; the rest would only make the answer long.
const NAMED: usize = 16;

/// How a request wants its texts encoded.
pub(super) fn options(request: &EncodeRequest, tokenizer: &Tokenizer, limits: &Limits) -> Result<Options, Error> {
    let mut checks = Checks::new();
    let policy = match SpecialTokenPolicy::try_from(request.special_tokens) {
        Ok(SpecialTokenPolicy::Unspecified | SpecialTokenPolicy::AsText) => Some(Policy::AsText),
        Ok(SpecialTokenPolicy::Allow) => Some(Policy::Allow),
        Ok(SpecialTokenPolicy::Refuse) => Some(Policy::Refuse),
        Err(_) => None,
    };
    checks.require(policy.is_some(), "special_tokens", || format!("{}: no such policy; 0 to 3 are known", request.special_tokens));

    let truncation = request.truncation.as_ref().map(|truncation| {
        checks.require(truncation.max_tokens >= 1, "truncation.max_tokens", || "0: must be at least 1".to_owned());
        let side = TruncationSide::try_from(truncation.side);
        checks.require(side.is_ok(), "truncation.side", || format!("{}: no such side; 0 to 2 are known", truncation.side));
        Truncation { max_tokens: truncation.max_tokens as usize, left: side == Ok(TruncationSide::Left) }
    });

    let padding = request.padding.as_ref().map(|padding| {
        checks.require(padding.multiple_of <= MAX_MULTIPLE, "padding.multiple_of", || {
            format!("{}: must be at most {MAX_MULTIPLE}", padding.multiple_of)
        });
        let size = tokenizer.vocabulary_size();
        let given = padding.pad_id.is_none_or(|id| id < size);
        checks.require(given, "padding.pad_id", || format!("{}: must be below the vocabulary's size, {size}", padding.pad_id.unwrap_or_default()));
        let pad_id = padding.pad_id.or_else(|| tokenizer.pad_id());
        checks
            .require(pad_id.is_some(), "padding.pad_id", || "absent: the tokenizer has no padding token of its own, so one must be given".to_owned());
        Padding { multiple_of: padding.multiple_of as usize, pad_id: pad_id.unwrap_or_default() }
    });

    checks.finish().map_err(Error::Invalid)?;
    Ok(Options {
        add_special_tokens: request.add_special_tokens.unwrap_or(true),
        policy: policy.unwrap_or(Policy::AsText),
        truncation,
        padding,
        offsets: request.return_offsets,
        max_tokens: limits.max_tokens,
    })
}

/// How much work the inputs are, in bytes of text.
pub(super) fn inputs(inputs: &[Input], limits: &Limits) -> Result<usize, Error> {
    let mut checks = Checks::new();
    number("inputs", inputs.len(), limits, &mut checks);
    let limit = limits.max_text_bytes;
    let long = inputs.iter().enumerate().flat_map(|(index, input)| {
        let pair = input.pair.as_ref().map(|pair| (index, "pair", pair.len()));
        [Some((index, "text", input.text.len())), pair].into_iter().flatten().filter(|(_, _, length)| *length > limit)
    });
    for (index, member, length) in long.take(NAMED) {
        checks.require(false, format!("inputs[{index}].{member}"), || format!("{length} bytes: must be at most {limit}"));
    }
    checks.finish().map_err(Error::Invalid)?;
    Ok(inputs.iter().map(|input| PER_INPUT + input.bytes()).sum())
}

/// How many ids there are, and how many bytes they and their texts may take.
pub(super) fn sequences(sequences: &[Vec<u32>], detokenizer: &Detokenizer, limits: &Limits) -> Result<(usize, usize), Error> {
    let mut checks = Checks::new();
    number("sequences", sequences.len(), limits, &mut checks);
    let total = sequences.iter().map(Vec::len).sum();
    checks.require(total <= limits.max_ids, "sequences", || format!("{total} ids: must be at most {}", limits.max_ids));
    checks.finish().map_err(Error::Invalid)?;
    ids(sequences.iter().enumerate().map(|(index, ids)| (format!("sequences[{index}].ids"), ids.as_slice())), detokenizer)?;
    let bytes: usize = sequences.iter().map(|ids| detokenizer.length(ids)).sum();
    fits("sequences", bytes, limits)?;
    Ok((total, bytes + 4 * total))
}

/// The ids of one message of a stream.
pub(super) fn message(message: &[u32], held: usize, detokenizer: &Detokenizer, limits: &Limits) -> Result<(), Error> {
    let (count, limit) = (message.len(), limits.max_ids);
    if count > limit {
        return Err(Error::invalid("ids", format!("{count} ids: must be at most {limit} in a message")));
    }
    if held + count > limit {
        let reason = format!("{} ids: this tokenizer decodes only whole texts, of at most {limit} ids", held + count);
        return Err(Error::invalid("ids", reason));
    }
    ids([("ids".to_owned(), message)], detokenizer)?;
    fits("ids", detokenizer.length(message), limits)
}

fn number(field: &str, count: usize, limits: &Limits, checks: &mut Checks) {
    let limit = limits.max_inputs;
    checks.require((1..=limit).contains(&count), field, || format!("{count} {field}: must be 1 to {limit}"));
}

/// Every id must be one of the vocabulary's.
fn ids<'a>(sequences: impl IntoIterator<Item = (String, &'a [u32])>, detokenizer: &Detokenizer) -> Result<(), Error> {
    let mut checks = Checks::new();
    let size = detokenizer.size();
    let mut named = 0;
    for (field, ids) in sequences {
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| **id >= size).take(NAMED - named) {
            checks.require(false, format!("{field}[{index}]"), || format!("{id}: must be below the vocabulary's size, {size}"));
            named += 1;
        }
    }
    checks.finish().map_err(Error::Invalid)
}

/// An answer of at least this many bytes must not be more than a client takes.
pub(super) fn fits(field: &str, bytes: usize, limits: &Limits) -> Result<(), Error> {
    let limit = limits.max_response_bytes;
    if bytes > limit {
        return Err(Error::invalid(field, format!("the answer has {bytes} bytes or more: {limit} is the limit")));
    }
    Ok(())
}
