//! Data sets, classifiers, metrics and jobs.

pub mod classifier;
pub mod datasets;
pub mod jobs;
pub mod metrics;
mod report;

pub(crate) use report::signature;
pub use report::{Interval, Metric};
