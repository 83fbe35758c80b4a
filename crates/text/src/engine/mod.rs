//! The models themselves: token ids in, token ids and vectors out.

pub mod decoder;
pub mod encoder;
mod generation;
pub mod sampler;
pub mod seq2seq;
pub mod stop;
pub mod windows;

pub use generation::{Event, FinishReason, Generation, GenerationDefaults, Queue};
