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
//!
//! What a metric was measured with is named so: a data set's file by its own SHA-256; a classifier's graph by its own;
//! a model, "name@version", by the SHA-256 of its folder's `quintet.toml`, which holds those of all its files. Of a model
//! that another process runs, the name and version are what that process answered, and the hash is empty: it is not
//! known here.
//!
//! Evaluations live in memory: they do not survive a restart, and the oldest that have ended make room for new ones.

#![forbid(unsafe_code)]

mod build;
mod config;
pub mod engine;
mod error;
mod evaluator;
mod peers;
mod service;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, Settings};
pub use error::Error;
pub use peers::Peers;
