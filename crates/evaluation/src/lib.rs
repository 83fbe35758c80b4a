//! The evaluation service: how good is a generative model?
//!
//! An evaluation is a job. It draws samples from the other services over gRPC, compares them with a data set that
//! this service holds, and ends with metrics.
//!
//! What must hold:
//!
//! * No number without its definition: each metric carries its signature, sample size, seed, interval, and the hashes
//!   of what it was measured with.
//! * The same request gives the same numbers: every draw comes from the request's seed.
//! * A job ends: with metrics, an error, or a cancellation, and its watchers hear of it.
//! * With a journal or a database, an evaluation that a client was told of is there after a restart, and ends once.

#![forbid(unsafe_code)]

mod build;
mod config;
mod database;
pub mod engine;
mod error;
mod peers;
mod service;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, DatabaseConfig, DatabaseUrl, Settings};
pub use error::Error;
