//! Guided decoding: which tokens may follow, so that the whole text has the form that was asked for.
//!
//! The grammars are `llguidance`'s. This module adds what a service needs around it: one [`Vocabulary`] per model, guides that are
//! refused before they cost much, errors with a type, and a [`Constraint`] that may move between threads.
//!
//! * **No tokenizer.** Only the bytes of each token are known here. `llguidance` then forces no tokens of its own (it does so only for
//!   a canonical tokenizer): every token that begins or continues an allowed text may follow, and the model chooses.
//! * **Cost.** Building a [`Constraint`] takes from half a millisecond to, for hostile input, a second or two: never on an async
//!   worker. A mask takes tens of microseconds, and at worst some tens of milliseconds before its fuel is spent.
//! * **Panics.** `llguidance` catches its own, in building as in every step, and for this sets a panic hook once per process that
//!   passes on to the one before. So there is no second `catch_unwind` here.

mod ahead;
mod constraint;
mod error;
mod guide;
mod limits;
mod multiples;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use ahead::{Ahead, Lent};
pub use constraint::Constraint;
pub use error::GuideError;
pub use guide::Guide;
pub use limits::Limits;
pub use vocabulary::Vocabulary;
