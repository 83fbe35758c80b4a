//! A job, and what is known of it.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Metric;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for its turn.
    Queued,
    /// Running.
    Running,
    /// Ended with metrics.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Cancelled.
    Cancelled,
}

impl State {
    /// Whether the job is over.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// What it is doing.
    pub stage: Cow<'static, str>,
    /// Steps done of the present stage.
    pub done: usize,
    /// Steps of the present stage; 0 = not known.
    pub total: usize,
    /// What it measured.
    pub metrics: Vec<Metric>,
    /// Why it failed.
    pub error: String,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
}

impl Snapshot {
    /// A job that waits for its turn.
    pub(super) fn queued() -> Self {
        let stage = Cow::Borrowed("waiting");
        Self { state: State::Queued, stage, done: 0, total: 0, metrics: Vec::new(), error: String::new(), ended_at: None }
    }
}

/// A job; `R` is the request that it was made from.
#[derive(Debug)]
pub struct Job<R> {
    /// Its id.
    pub id: String,
    /// Its request.
    pub request: R,
    /// When it was created.
    pub created_at: SystemTime,
    /// Its place among all jobs: the newest has the highest.
    pub number: u64,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) cancel: CancellationToken,
    pub(super) left: CancellationToken,
}

impl<R> Job<R> {
    /// What is known of it now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Follows it: the state now and after each change. A slow watcher sees the newest.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// Cancels it, if it has not ended.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Resolves when this process ends before the job's turn has come: the next one takes it up.
    pub fn left(&self) -> WaitForCancellationFutureOwned {
        self.left.clone().cancelled_owned()
    }
}

/// How a running job tells of its progress.
#[derive(Debug)]
pub struct Progress<R>(pub(super) Arc<Job<R>>);

impl<R> Clone for Progress<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Progress<R> {
    /// A new stage begins, of so many steps.
    pub fn stage(&self, stage: &'static str, total: usize) {
        self.0.snapshot.send_modify(|snapshot| (snapshot.stage, snapshot.done, snapshot.total) = (stage.into(), 0, total));
    }

    /// So many steps of the stage are done.
    pub fn done(&self, done: usize) {
        self.0.snapshot.send_modify(|snapshot| snapshot.done = done);
    }
}
