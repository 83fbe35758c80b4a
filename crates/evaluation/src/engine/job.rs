//! A job, and what is known of it.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use metrics::counter;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::Span;

use super::{Metric, journal::Noted};
use crate::Error;

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
#[derive(Clone, Debug, PartialEq)]
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

    /// The same job at its end: with what came of it, or cancelled where nothing did.
    #[must_use]
    pub(super) fn ended(mut self, outcome: Option<Result<Vec<Metric>, Error>>) -> Self {
        self.ended_at = Some(SystemTime::now());
        match outcome {
            None => self.state = State::Cancelled,
            Some(Ok(metrics)) => (self.state, self.stage, self.metrics) = (State::Succeeded, "done".into(), metrics),
            Some(Err(error)) => (self.state, self.error) = (State::Failed, error.to_string()),
        }
        self
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
    pub(super) fn new(noted: Noted<R>) -> Arc<Self> {
        let Noted { number, id, request, created_at, snapshot } = noted;
        let (cancel, left) = (CancellationToken::new(), CancellationToken::new());
        Arc::new(Self { id, request, created_at, number, snapshot: watch::channel(snapshot).0, cancel, left })
    }

    /// What is known of it now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// The whole of it, standing so.
    pub fn noted(&self, snapshot: Snapshot) -> Noted<R>
    where
        R: Clone,
    {
        Noted { number: self.number, id: self.id.clone(), request: self.request.clone(), created_at: self.created_at, snapshot }
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

/// Counts a job that has ended.
pub(super) fn count(state: State) {
    counter!("quintet_evaluation_evaluations_total", "state" => format!("{state:?}").to_lowercase()).increment(1);
}

/// What a job logs.
pub(super) fn span(id: &str) -> Span {
    tracing::info_span!(parent: None, "evaluation", id)
}

/// An id that no other job has.
pub(super) fn fresh_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}
