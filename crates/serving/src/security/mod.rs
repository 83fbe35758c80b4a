//! Who may call what, and over what.

mod guard;
mod keys;
mod tls;
mod watched;

pub(crate) use guard::Guard;
pub use keys::{Key, fresh_key};
pub(crate) use tls::Acceptor;
