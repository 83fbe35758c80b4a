//! The image service: pictures from generative adversarial networks.
//!
//! What must hold:
//!
//! * Picture i of a request depends on its seed and i alone: see [`engine::latents`]. So a request for more pictures
//!   begins with the same ones, and neither batches nor neighbours change a byte.
//! * What one request may make is bounded before anything is allocated.

#![forbid(unsafe_code)]

mod build;
mod config;
pub mod engine;
mod error;
mod service;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, Settings};
pub use error::Error;
