//! The text service: transformers over text.
//!
//! * Decoders (GPT family) generate and score. One thread owns a decoder's session and runs many sequences at
//!   once over shared key–value buffers: see [`engine::decoder`].
//! * Encoder–decoders (T5, BART and the like) answer to an input. One thread runs many texts at once over two caches: see
//!   [`engine::seq2seq`].
//! * Encoders (BERT family) embed, rerank, classify and fill masks: see [`engine::encoder`].
//!
//! The service has no tokenizer. It calls the tokenization service for every encode and decode; text is decoded
//! beside the decode loop and never in it.

#![forbid(unsafe_code)]

mod build;
mod config;
pub mod engine;
mod error;
mod refusal;
mod service;
mod tokenizer;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, DefaultSpeculation, Settings};
pub use error::Error;
