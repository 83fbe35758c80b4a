//! What is noted of jobs that several processes share, and which of them runs each.

use std::fmt::Debug;

use async_trait::async_trait;

use super::journal::Noted;
use crate::Error;

/// The right to run a job, until it runs out or is given back. No two are equal: who lost one cannot pass for who has the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job's place among all.
    pub number: u64,
    /// How many times the job has been claimed, this one included.
    pub attempt: u32,
}

/// A job that this process is to carry on.
#[derive(Clone, Debug)]
pub struct Claim<R> {
    /// The job as it was noted last.
    pub noted: Noted<R>,
    /// The right to run it.
    pub lease: Lease,
    /// How many processes were lost while they ran it.
    pub lost: u32,
    /// Whether somebody wants it cancelled.
    pub is_unwanted: bool,
}

/// What has become of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is held on.
    On,
    /// It is held on, and somebody wants the job cancelled.
    Unwanted,
    /// It is lost: another process may have the job.
    Lost,
}

/// Where jobs are noted that several processes share. Every call ends in bounded time, with [`Error::Unreachable`] where nothing answers.
#[async_trait]
pub trait Ledger<R>: Debug + Send + Sync {
    /// Notes a new job that waits for its turn, unless `most` or more wait, and gives its number.
    async fn add(&self, job: Noted<R>, most: usize) -> Result<Added, Error>;

    /// Claims the oldest job that nobody runs, or that of this id.
    async fn claim(&self, id: Option<&str>) -> Result<Option<Claim<R>>, Error>;

    /// Notes how a job stands that runs, and holds its lease on.
    async fn hold(&self, lease: &Lease, job: Noted<R>) -> Result<Held, Error>;

    /// Notes how a job ended; `false` where the lease was lost, and nothing is noted.
    async fn end(&self, lease: &Lease, job: Noted<R>) -> Result<bool, Error>;

    /// Gives a job back that has not ended: the next process may claim it at once.
    async fn give_back(&self, lease: &Lease, job: Noted<R>) -> Result<(), Error>;

    /// A job by its id.
    async fn find(&self, id: &str) -> Result<Option<Noted<R>>, Error>;

    /// At most so many jobs from the newest, those before the page's end.
    async fn list(&self, size: usize, before: Option<u64>) -> Result<Vec<Noted<R>>, Error>;

    /// Lets whoever runs a job know that it is to be cancelled.
    async fn ask_to_cancel(&self, id: &str) -> Result<(), Error>;

    /// Forgets the oldest ended jobs but so many.
    async fn forget(&self, keep: usize) -> Result<(), Error>;
}

/// What became of a job that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is noted, under this number.
    As(u64),
    /// So many wait already.
    Full(usize),
}
