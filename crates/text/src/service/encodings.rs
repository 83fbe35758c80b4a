//! What the rpcs of encoders have in common: texts become tokens, and those that are too long are refused.

use quintet_batching::Ask;
use quintet_onnx::ModelFolder;
use quintet_proto::tokenization::v1::{EncodeInput, EncodeRequest, Encoding};
use quintet_serving::{context::Context, error::Checks};

use super::TextService;
use crate::{Error, engine::encoder::Tokens};

/// Most texts of one request.
pub(super) const MOST_INPUTS: usize = 1024;

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

/// Tokens of all texts together.
pub(super) fn count(encodings: &[Encoding]) -> u32 {
    encodings.iter().map(|encoding| encoding.ids.len()).sum::<usize>() as u32
}

impl TextService {
    /// The encodings of texts, of at most `most` tokens each: longer ones are cut where `truncate` says so, and refused where it
    /// does not. `field` names a text by its place.
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
