//! Generators and discriminators, latents and pictures.

pub mod grid;
pub mod latents;
mod model;
pub mod picture;

pub use model::Gan;
