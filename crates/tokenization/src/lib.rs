#![doc = include_str!("../README.md")]
//!
//! # What must hold
//!
//! * User text never becomes a special token unless the caller allows it: text is encoded by a tokenizer from which
//!   the special tokens are taken out, and in conversations it is kept apart from what the template writes.
//! * What a stream decodes is what the whole decodes, byte for byte, whatever the messages: see
//!   [`engine::Detokenizer`].
//! * The fast encoder encodes only what it has been shown to encode as the complete one does.
//! * No request holds up the threads that answer the network for longer than the complete encoder takes for a few kilobytes.
//!
//! It needs no ONNX Runtime library.

#![forbid(unsafe_code)]
#![allow(clippy::doc_markdown, reason = "the page above is prose, and names what the field names")]

mod build;
mod config;
mod engine;
mod error;
mod service;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, Settings};
pub use error::Error;
