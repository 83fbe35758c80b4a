//! The tokenization service: text to tokens and back, for every model folder that has a `tokenizer.json`.
//!
//! What must hold:
//!
//! * User text never becomes a special token unless the caller allows it: text is encoded by a tokenizer from which
//!   the special tokens are taken out.
//! * What a stream decodes is what the whole decodes, byte for byte, whatever the messages: see
//!   [`engine::Detokenizer`].
//! * No request holds up the threads that answer the network for longer than a few kilobytes of text take.
//!
//! It needs no ONNX Runtime library.

#![forbid(unsafe_code)]

mod build;
mod config;
mod engine;
mod error;
mod service;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, Settings};
pub use error::Error;
