//! The anomaly service: variational autoencoders over rows and images.
//!
//! What must hold:
//!
//! * A score is a function of its sample and its model: the latent is the posterior mean, nothing is drawn, and no
//!   neighbour in the batch changes a bit.
//! * A threshold comes from normal samples that the service itself has scored, with the library it runs on: at load
//!   from the folder's `normals.npz`, or from a client's. None is baked into a model.

#![forbid(unsafe_code)]

mod build;
mod config;
pub mod engine;
mod error;
mod service;

pub use build::{Served, build, serve};
pub use config::{Config, DEFAULTS, Settings};
pub use error::Error;
