//! The `quintet` program: all services in one process, and commands for people that call them.
//!
//! It composes and converts; it has no engine of its own. The services in one process call each other through
//! the same generated clients as they would apart.

#![forbid(unsafe_code)]

mod cli;
mod client;
mod conformance;
mod up;

pub use cli::main;
pub use up::{Settings, defaults, serve};
