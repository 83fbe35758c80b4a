//! Data sets, classifiers, metrics and jobs: domain types alone.

pub mod classifier;
pub mod datasets;
pub mod jobs;
pub mod metrics;
mod plan;
mod report;

pub use plan::{AnomalyPlan, ImagePlan, Plan, Subject, TextPlan};
pub(crate) use report::signature;
pub use report::{Interval, Metric};
