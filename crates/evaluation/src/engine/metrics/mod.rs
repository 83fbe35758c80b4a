//! The metrics: pure functions in 64-bit floats.
//!
//! Golden values come from reference implementations: see `scripts/golden/metrics.py`.

pub mod bootstrap;
pub mod frechet;
pub mod inception;
pub mod kernel;
pub mod likelihood;
pub mod ranking;

#[cfg(test)]
mod golden;
