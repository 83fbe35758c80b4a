//! What a request may ask for; everything wrong is found before anything is worked on.

use quintet_proto::tokenization::v1::{
    self as proto, ChunkBoundary, ChunkRequest, EncodeInput, EncodeRequest, PaddingSide, SpecialTokenPolicy, TruncationSide, TruncationStrategy,
};
use quintet_serving::error::Checks;

use super::Limits;
use crate::{
    Error,
    engine::{Boundary, Chunking, Detokenizer, Options, Padding, Policy, Strategy, Tokenizer, Truncation},
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
    let policy = allowing(policy(request.special_tokens, &mut checks), request, tokenizer, &mut checks);
    let pairs = request.inputs.iter().any(|input| input.pair.is_some());
    let truncation = request.truncation.as_ref().map(|given| truncation(given, tokenizer, pairs, &mut checks));
    let padding = request.padding.as_ref().map(|given| padding(given, tokenizer, limits, &mut checks));
    checks.finish().map_err(Error::Invalid)?;
    Ok(Options {
        add_special_tokens: request.add_special_tokens.unwrap_or(true),
        policy,
        truncation,
        padding,
        offsets: request.return_offsets,
        special_mask: request.return_special_tokens_mask,
        max_tokens: limits.max_tokens,
        max_bytes: limits.max_response_bytes,
    })
}

/// What happens to text that spells a special token.
pub(super) fn policy(given: i32, checks: &mut Checks) -> Policy {
    let policy = match SpecialTokenPolicy::try_from(given) {
        Ok(SpecialTokenPolicy::Unspecified | SpecialTokenPolicy::AsText) => Some(Policy::AsText),
        Ok(SpecialTokenPolicy::Allow) => Some(Policy::Allow),
        Ok(SpecialTokenPolicy::Refuse) => Some(Policy::Refuse),
        Err(_) => None,
    };
    checks.require(policy.is_some(), "special_tokens", || format!("{given}: no such policy; 0 to 3 are known"));
    policy.unwrap_or(Policy::AsText)
}

/// The policy with the one special token that texts may spell after all.
fn allowing(policy: Policy, request: &EncodeRequest, tokenizer: &Tokenizer, checks: &mut Checks) -> Policy {
    let token = request.allowed_special_token.as_str();
    if token.is_empty() {
        return policy;
    }
    let field = "allowed_special_token";
    checks.require(policy == Policy::AsText, field, || "it goes with the policy AS_TEXT alone".to_owned());
    checks.require(!request.return_offsets, field, || "it does not go with return_offsets".to_owned());
    let id = tokenizer.specials().iter().find(|special| special.content == token).map(|special| special.id);
    checks.require(id.is_some(), field, || {
        let known: Vec<&str> = tokenizer.specials().iter().map(|special| special.content.as_str()).take(NAMED).collect();
        let short: String = token.chars().take(64).collect();
        format!("{short:?}: the tokenizer has no such special token; it has {}", known.join(", "))
    });
    id.map_or(policy, Policy::AllowOne)
}

pub(super) fn truncation(given: &proto::Truncation, tokenizer: &Tokenizer, pairs: bool, checks: &mut Checks) -> Truncation {
    checks.require(given.max_tokens >= 1, "truncation.max_tokens", || "0: must be at least 1".to_owned());
    let side = TruncationSide::try_from(given.side);
    checks.require(side.is_ok(), "truncation.side", || format!("{}: no such side; 0 to 2 are known", given.side));
    let strategy = TruncationStrategy::try_from(given.strategy);
    checks.require(strategy.is_ok(), "truncation.strategy", || format!("{}: no such strategy; 0 to 3 are known", given.strategy));
    let strategy = match strategy {
        Ok(TruncationStrategy::OnlyFirst) => Strategy::OnlyFirst,
        Ok(TruncationStrategy::OnlySecond) => Strategy::OnlySecond,
        _ => Strategy::LongestFirst,
    };
    checks.require(!(given.return_overflow && pairs && strategy == Strategy::LongestFirst), "truncation.strategy", || {
        "the pieces of a pair need a strategy that cuts one text: ONLY_FIRST or ONLY_SECOND".to_owned()
    });
    checks.require(given.stride == 0 || given.return_overflow, "truncation.stride", || {
        format!("{}: it says what pieces repeat, and return_overflow, which asks for them, is not set", given.stride)
    });
    checks.require(given.stride < given.max_tokens.max(1), "truncation.stride", || {
        format!("{}: must be less than truncation.max_tokens, {}", given.stride, given.max_tokens)
    });
    let left = match side {
        Ok(TruncationSide::Left) => true,
        Ok(TruncationSide::Right) => false,
        _ => tokenizer.cuts_left(),
    };
    Truncation { max_tokens: given.max_tokens as usize, left, strategy, overflow: given.return_overflow.then_some(given.stride as usize) }
}

fn padding(given: &proto::Padding, tokenizer: &Tokenizer, limits: &Limits, checks: &mut Checks) -> Padding {
    checks.require(given.multiple_of <= MAX_MULTIPLE, "padding.multiple_of", || format!("{}: must be at most {MAX_MULTIPLE}", given.multiple_of));
    let most = limits.max_tokens;
    checks.require(given.min_tokens as usize <= most, "padding.min_tokens", || format!("{}: must be at most {most}", given.min_tokens));
    let side = PaddingSide::try_from(given.side);
    checks.require(side.is_ok(), "padding.side", || format!("{}: no such side; 0 to 2 are known", given.side));
    let size = tokenizer.vocabulary_size();
    let known = given.pad_id.is_none_or(|id| id < size);
    checks.require(known, "padding.pad_id", || format!("{}: must be below the vocabulary's size, {size}", given.pad_id.unwrap_or_default()));
    let pad_id = given.pad_id.or_else(|| tokenizer.pad_id());
    checks.require(pad_id.is_some(), "padding.pad_id", || "absent: the tokenizer has no padding token of its own, so one must be given".to_owned());
    let left = match side {
        Ok(PaddingSide::Left) => true,
        Ok(PaddingSide::Right) => false,
        _ => tokenizer.pads_left(),
    };
    Padding { multiple_of: given.multiple_of as usize, min_tokens: given.min_tokens as usize, pad_id: pad_id.unwrap_or_default(), left }
}

/// How a request wants its texts cut, and how many bytes they have.
pub(super) fn chunking(request: &ChunkRequest, limits: &Limits) -> Result<(Chunking, usize), Error> {
    let mut checks = Checks::new();
    number("texts", request.texts.len(), limits, &mut checks);
    let limit = limits.max_text_bytes;
    for (index, text) in request.texts.iter().enumerate().filter(|(_, text)| text.len() > limit).take(NAMED) {
        checks.require(false, format!("texts[{index}]"), || format!("{} bytes: must be at most {limit}", text.len()));
    }
    checks.require(request.max_tokens >= 1, "max_tokens", || "0: must be at least 1".to_owned());
    checks.require(request.overlap_tokens <= request.max_tokens / 2, "overlap_tokens", || {
        format!("{}: must be at most half of max_tokens, {}", request.overlap_tokens, request.max_tokens)
    });
    let boundary = ChunkBoundary::try_from(request.boundary);
    checks.require(boundary.is_ok(), "boundary", || format!("{}: no such boundary; 0 to 4 are known", request.boundary));
    checks.finish().map_err(Error::Invalid)?;
    let boundary = match boundary {
        Ok(ChunkBoundary::Word) => Boundary::Word,
        Ok(ChunkBoundary::Sentence) => Boundary::Sentence,
        Ok(ChunkBoundary::Paragraph) => Boundary::Paragraph,
        _ => Boundary::Token,
    };
    let (max_tokens, overlap) = (request.max_tokens as usize, request.overlap_tokens as usize);
    let chunking = Chunking { max_tokens, overlap, boundary, add_special_tokens: request.add_special_tokens.unwrap_or(true) };
    Ok((chunking, request.texts.iter().map(|text| PER_INPUT + text.len()).sum()))
}

/// How much work the inputs are, in bytes of text.
pub(super) fn inputs(inputs: &[EncodeInput], limits: &Limits) -> Result<usize, Error> {
    let mut checks = Checks::new();
    number("inputs", inputs.len(), limits, &mut checks);
    let limit = limits.max_text_bytes;
    let (mut total, mut named) = (0, 0);
    for (index, input) in inputs.iter().enumerate() {
        let texts =
            [("text", Some(input.text.len())), ("pair", input.pair.as_ref().map(String::len)), ("raw_text", input.raw_text.as_ref().map(Vec::len))];
        for (member, length) in texts.into_iter().filter_map(|(member, length)| Some((member, length?))) {
            total += length;
            if length > limit && named < NAMED {
                named += 1;
                checks.require(false, format!("inputs[{index}].{member}"), || format!("{length} bytes: must be at most {limit}"));
            }
        }
        if input.raw_text.is_some() && !input.text.is_empty() && named < NAMED {
            named += 1;
            checks.require(false, format!("inputs[{index}].raw_text"), || format!("{} bytes of text are given beside it", input.text.len()));
        }
    }
    checks.finish().map_err(Error::Invalid)?;
    Ok(total + PER_INPUT * inputs.len())
}

/// How many ids there are, and how many bytes they and their texts may take.
pub(super) fn sequences(sequences: &[Vec<u32>], detokenizer: &Detokenizer, limits: &Limits) -> Result<(usize, usize), Error> {
    let mut checks = Checks::new();
    number("sequences", sequences.len(), limits, &mut checks);
    let total = sequences.iter().map(Vec::len).sum();
    checks.require(total <= limits.max_ids, "sequences", || format!("{total} ids: must be at most {}", limits.max_ids));
    checks.finish().map_err(Error::Invalid)?;
    ids(sequences.iter().map(Vec::as_slice), |index| format!("sequences[{index}].ids"), detokenizer)?;
    let bytes: usize = sequences.iter().map(|ids| detokenizer.length(ids)).sum();
    fits("sequences", bytes, limits)?;
    Ok((total, bytes + 4 * total))
}

/// The ids of one message of a stream.
pub(super) fn message(message: &[u32], held: usize, detokenizer: &Detokenizer, limits: &Limits) -> Result<(), Error> {
    let (count, limit) = (message.len(), limits.max_streamed_ids);
    if count > limit {
        return Err(Error::invalid("ids", format!("{count} ids: must be at most {limit} in a message")));
    }
    if held + count > limit {
        let reason = format!("{} ids: this tokenizer decodes only whole texts, of at most {limit} ids", held + count);
        return Err(Error::invalid("ids", reason));
    }
    ids([message], |_| "ids".to_owned(), detokenizer)?;
    fits("ids", detokenizer.length(message), limits)
}

fn number(field: &str, count: usize, limits: &Limits, checks: &mut Checks) {
    let limit = limits.max_inputs;
    checks.require((1..=limit).contains(&count), field, || format!("{count} {field}: must be 1 to {limit}"));
}

/// Every id must be one of the vocabulary's.
fn ids<'a>(sequences: impl IntoIterator<Item = &'a [u32]>, field: impl Fn(usize) -> String, detokenizer: &Detokenizer) -> Result<(), Error> {
    let mut checks = Checks::new();
    let size = detokenizer.size();
    let mut named = 0;
    for (sequence, ids) in sequences.into_iter().enumerate() {
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| **id >= size).take(NAMED - named) {
            checks.require(false, format!("{}[{index}]", field(sequence)), || format!("{id}: must be below the vocabulary's size, {size}"));
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
