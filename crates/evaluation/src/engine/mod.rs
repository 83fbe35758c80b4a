//! Data sets, classifiers, metrics, jobs and what is kept of them.

pub mod classifier;
pub mod datasets;
pub mod job;
pub mod jobs;
pub mod journal;
pub mod ledger;
pub mod metrics;
mod report;
pub mod shared;

pub(crate) use report::signature;
pub use report::{Interval, Metric};
