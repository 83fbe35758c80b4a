//! Tokenizer files of other libraries as the JSON of Hugging Face's `tokenizer.json`.
//!
//! * SentencePiece models (`tokenizer.model`, `spiece.model`): [`sentencepiece::convert`].
//! * tiktoken files (`cl100k_base.tiktoken`, Llama 3's `tokenizer.model`): [`tiktoken::Tiktoken::convert`].
//! * Which of the two a file is: [`detect`].

mod added;
mod detect;
mod error;
pub(crate) mod sentencepiece;
pub(crate) mod tiktoken;

pub(crate) use detect::{Format, detect};
pub(crate) use error::Error;

#[cfg(test)]
mod tests {
    mod config;
    mod golden;
    mod hostile;
}
