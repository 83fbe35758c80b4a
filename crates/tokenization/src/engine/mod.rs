//! Tokenizers, with no protocol in sight.

mod catalog;
pub(crate) mod chat;
mod chunk;
mod definition;
mod detokenizer;
mod encode;
mod formats;
#[cfg(test)]
mod golden;
mod offsets;
#[cfg(test)]
pub(crate) mod samples;
mod tokenizer;
mod truncation;
mod workers;

pub(crate) use catalog::{Catalog, Entry};
pub(crate) use chunk::{Boundary, Chunk, Chunking, chunk};
pub(crate) use detokenizer::{Detokenizer, Stream};
pub(crate) use encode::{Encoded, Input, Options, Padding, Policy, count, encode};
pub(crate) use offsets::Span;
pub(crate) use tokenizer::{Algorithm, Tokenizer};
pub(crate) use truncation::{Strategy, Truncation};
pub(crate) use workers::{Refused, Workers};

/// A part of a request that cannot be served, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The part's path, such as `inputs[3].text`.
    pub(crate) field: String,
    /// The value and the limit.
    pub(crate) description: String,
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}
