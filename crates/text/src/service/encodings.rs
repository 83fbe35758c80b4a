//! What the rpcs of encoders have in common: texts become tokens, and those that are too long are refused.

use futures_util::future::try_join_all;
use quintet_batching::Ask;
use quintet_onnx::{Loaded, ModelFolder};
use quintet_proto::tokenization::v1::{EncodeInput, EncodeRequest, Encoding};
use quintet_serving::{context::Context, error::Checks};

use super::TextService;
use crate::{
    Error,
    engine::{
        Engine,
        encoder::{Encoder, Tokens, Vocabulary},
    },
};

/// Most texts of one request.
pub(super) const MOST_INPUTS: usize = 1024;

/// Bytes that a text or a pair takes in a request for encodings beside its own: tags and lengths.
const PER_INPUT: usize = 24;

/// Bytes that such a request takes beside its inputs and the model's name and version.
const PER_REQUEST: usize = 128;

/// Notes whether there are texts, not too many, and none of them empty.
pub(super) fn check_texts<'a>(field: &str, texts: impl ExactSizeIterator<Item = &'a str>, most: usize, checks: &mut Checks) {
    let count = texts.len();
    checks.require((1..=most).contains(&count), field, || format!("{count} texts: must be 1 to {most}"));
    for (index, text) in texts.enumerate().take(most) {
        check_text(&format!("{field}[{index}]"), text, checks);
    }
}

/// Notes whether a text is empty.
pub(super) fn check_text(field: &str, text: &str, checks: &mut Checks) {
    checks.require(!text.is_empty(), field, || "empty: at least one character is needed".to_owned());
}

/// Notes whether a number is within its range.
pub(super) fn check_count(field: &str, count: Option<u32>, most: usize, checks: &mut Checks) {
    if let Some(count) = count {
        checks.require((1..=most).contains(&(count as usize)), field, || format!("{count}: must be 1 to {most}"));
    }
}

/// When this call's texts are to be run.
pub(super) fn ask() -> Ask {
    let context = Context::current();
    Ask::rows(1).until(context.deadline).priority(context.priority)
}

/// A text alone.
pub(super) fn single(text: String) -> EncodeInput {
    EncodeInput { text, ..EncodeInput::default() }
}

/// A text as a model reads it.
pub(super) fn tokens(encoding: Encoding) -> Tokens {
    Tokens { ids: encoding.ids, types: encoding.type_ids }
}

/// A text's tokens.
pub(super) fn length(encoding: &Encoding) -> usize {
    encoding.ids.len()
}

/// Tokens of all texts together.
pub(super) fn count(encodings: &[Encoding]) -> u32 {
    encodings.iter().map(length).sum::<usize>() as u32
}

/// What `run` makes of texts, in their order. All texts of a request may be more than the queue takes even where nothing else waits, so
/// they enter it in groups of at most half of what may wait, of one text at least.
pub(super) async fn in_groups<T, A, F>(encoder: &Encoder, texts: Vec<T>, length: impl Fn(&T) -> usize, run: impl Fn(T) -> F) -> Result<Vec<A>, Error>
where
    F: Future<Output = Result<A, Error>>,
{
    let mut answers = Vec::with_capacity(texts.len());
    for group in groups(texts, length, encoder.max_queue_tokens() / 2) {
        answers.extend(try_join_all(group.into_iter().map(&run)).await?);
    }
    Ok(answers)
}

/// Texts parted, in order, into groups of at most `most` tokens; a text that has more is a group of its own.
fn groups<T>(texts: Vec<T>, length: impl Fn(&T) -> usize, most: usize) -> Vec<Vec<T>> {
    let (mut groups, mut group, mut tokens) = (Vec::new(), Vec::new(), 0_usize);
    for text in texts {
        let length = length(&text);
        if !group.is_empty() && tokens.saturating_add(length) > most {
            groups.push(std::mem::take(&mut group));
            tokens = 0;
        }
        tokens = tokens.saturating_add(length);
        group.push(text);
    }
    groups.push(group);
    groups
}

impl TextService {
    /// Refuses texts that are more than a request for their encodings may hold: `bytes` in `count` inputs, before any of them is copied.
    pub(super) fn encodable(&self, folder: &ModelFolder, field: &str, count: usize, bytes: usize) -> Result<(), Error> {
        let around = folder.name.len() + folder.version.len() + PER_REQUEST;
        let bytes = count.saturating_mul(PER_INPUT).saturating_add(bytes).saturating_add(around);
        let most = self.max_request_bytes;
        if bytes > most {
            let reason = format!("{bytes} bytes with what stands beside each of the {count}: at most {most}; send fewer or shorter ones");
            return Err(Error::invalid(field, reason));
        }
        Ok(())
    }

    /// What the tokenizer says of its tokens, which the model keeps once it is known.
    pub(super) async fn vocabulary<'a>(&self, loaded: &Loaded<Engine>, encoder: &'a Encoder) -> Result<&'a Vocabulary, Error> {
        if let Some(vocabulary) = encoder.vocabulary().get() {
            return Ok(vocabulary);
        }
        let vocabulary = self.tokenizer.described(&loaded.folder).await?;
        Ok(encoder.vocabulary().get_or_init(|| vocabulary))
    }

    /// The encodings of texts, of at most `most` tokens each: longer ones are cut where `truncate` says so, and refused where it
    /// does not. `field` names a text by its place, and what the tokenization service refuses is named by its own paths.
    pub(super) async fn read(
        &self,
        folder: &ModelFolder,
        inputs: Vec<EncodeInput>,
        (most, truncate): (usize, bool),
        asked: EncodeRequest,
        field: impl Fn(usize) -> String,
    ) -> Result<Vec<Encoding>, Error> {
        let count = inputs.len();
        let encodings = self.tokenizer.encode_inputs(folder, inputs, truncate.then_some(most), asked).await?;
        if encodings.len() != count {
            let reason = format!("{} encodings for {count} texts", encodings.len());
            return Err(Error::Tokenization(tonic::Status::internal(reason)));
        }
        let mut checks = Checks::new();
        for (index, encoding) in encodings.iter().enumerate() {
            let length = encoding.ids.len();
            checks.require(length <= most, field(index), || format!("{length} tokens: at most {most}; set `truncate` to have the end cut off"));
            checks.require(length > 0, field(index), || "no tokens: the tokenizer makes nothing of it".to_owned());
        }
        checks.finish().map_err(Error::Invalid)?;
        Ok(encodings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_as_much_as_fits_and_every_text_in_order() {
        assert_eq!(groups(vec![3, 4, 1, 9, 2, 6], |length| *length, 8), [vec![3, 4, 1], vec![9], vec![2, 6]]);
        assert_eq!(groups(vec![1, 1], |length| *length, 0), [[1], [1]]);
        assert_eq!(groups(vec![5, usize::MAX, 5], |length| *length, 100), [[5], [usize::MAX], [5]]);
    }
}
