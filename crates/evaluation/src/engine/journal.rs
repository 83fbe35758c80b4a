//! What is kept of jobs beyond the process that took them.

use std::{fmt::Debug, time::SystemTime};

use super::job::{Job, Snapshot};
use crate::Error;

/// A job as it was noted last.
#[derive(Clone, Debug)]
pub struct Noted<R> {
    /// Its place among all jobs.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// Its request.
    pub request: R,
    /// When it was created.
    pub created_at: SystemTime,
    /// How it stood.
    pub snapshot: Snapshot,
}

/// Where jobs are noted. It blocks for as long as a disk does.
pub trait Journal<R>: Debug + Send + Sync {
    /// Notes how a job stands. When this returns, the note outlives the process.
    fn note(&self, job: &Job<R>, snapshot: &Snapshot) -> Result<(), Error>;

    /// Forgets a job.
    fn forget(&self, number: u64) -> Result<(), Error>;
}
