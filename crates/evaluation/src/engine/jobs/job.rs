use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    engine::{Metric, Plan, Subject},
};

/// Where an evaluation stands.
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
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// All there is to know of an evaluation at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// What is evaluated.
    pub plan: Plan,
    /// What it is doing, in words.
    pub stage: &'static str,
    /// Steps done of the stage.
    pub done: u64,
    /// Steps of the stage; 0 = not known.
    pub total: u64,
    /// What it measured.
    pub metrics: Vec<Metric>,
    /// Why it failed.
    pub error: String,
    /// When it was created.
    pub created: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
}

/// An evaluation: its state, watched by any number, and what cancels it.
#[derive(Debug)]
pub struct Job {
    /// Its place among all: a later one has a higher number.
    pub(super) sequence: u64,
    pub(super) cancelled: CancellationToken,
    pub(super) created: std::time::Instant,
    state: watch::Sender<Snapshot>,
}

impl Job {
    pub(super) fn new(sequence: u64, plan: Plan, cancelled: CancellationToken) -> Self {
        let snapshot = Snapshot {
            // Random, so that ids of different processes do not meet and nobody can count the others' evaluations.
            id: format!("{:032x}", rand::random::<u128>()),
            state: State::Queued,
            plan,
            stage: "waiting for its turn",
            done: 0,
            total: 0,
            metrics: Vec::new(),
            error: String::new(),
            created: SystemTime::now(),
            ended: None,
        };
        Self { sequence, cancelled, created: std::time::Instant::now(), state: watch::Sender::new(snapshot) }
    }

    /// Its state now.
    pub fn snapshot(&self) -> Snapshot {
        self.state.borrow().clone()
    }

    /// Its state now and after each change. Who reads slowly misses states, never the last one.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.state.subscribe()
    }

    /// Takes it from the queue; `false` where it has ended there.
    pub(super) fn start(&self) -> bool {
        self.state.send_if_modified(|snapshot| {
            let starts = snapshot.state == State::Queued;
            if starts {
                (snapshot.state, snapshot.stage) = (State::Running, "starting");
            }
            starts
        })
    }

    /// Ends it, unless it has ended already: whether it was this call that did.
    pub(super) fn end(&self, outcome: Result<Vec<Metric>, Error>) -> bool {
        self.state.send_if_modified(|snapshot| {
            if snapshot.state.is_final() {
                return false;
            }
            match outcome {
                Ok(metrics) => (snapshot.state, snapshot.metrics, snapshot.done) = (State::Succeeded, metrics, snapshot.total),
                Err(Error::Cancelled | Error::ShuttingDown) => snapshot.state = State::Cancelled,
                Err(error) => (snapshot.state, snapshot.error) = (State::Failed, error.to_string()),
            }
            snapshot.ended = Some(SystemTime::now());
            true
        })
    }

    fn update(&self, change: impl FnOnce(&mut Snapshot)) -> Result<(), Error> {
        if self.cancelled.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.state.send_if_modified(|snapshot| {
            let running = snapshot.state == State::Running;
            if running {
                change(snapshot);
            }
            running
        });
        Ok(())
    }
}

/// How an evaluation tells of itself, and hears that it was cancelled: every call then answers with an error.
#[derive(Clone, Debug)]
pub struct Progress(pub(super) std::sync::Arc<Job>);

impl Progress {
    /// A new stage, of so many steps; 0 = not known.
    pub fn stage(&self, stage: &'static str, total: usize) -> Result<(), Error> {
        self.0.update(|snapshot| (snapshot.stage, snapshot.done, snapshot.total) = (stage, 0, total as u64))
    }

    /// So many steps of the stage are done.
    pub fn done(&self, steps: usize) -> Result<(), Error> {
        self.0.update(|snapshot| snapshot.done = steps as u64)
    }

    /// The default model, or the data set that goes with it, has turned out to be this one.
    pub fn found(&self, found_model: &str, found_dataset: &str) -> Result<(), Error> {
        self.0.update(|snapshot| {
            let (model, dataset) = match &mut snapshot.plan.subject {
                Subject::Image(plan) => (&mut plan.model, &mut plan.dataset),
                Subject::Text(plan) => (&mut plan.model, &mut plan.dataset),
                Subject::Anomaly(plan) => (&mut plan.model, &mut plan.dataset),
            };
            found_model.clone_into(model);
            found_dataset.clone_into(dataset);
        })
    }
}
