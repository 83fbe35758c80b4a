//! Encoders and decoders, scores, thresholds and explanations.

pub mod calibration;
pub mod explanation;
mod model;
pub mod picture;
pub mod score;
mod section;

pub use model::{Reconstruction, Vae};
pub use section::{Data, Feature, Section};
