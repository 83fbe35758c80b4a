//! Masks that are worked out while the model runs.

use std::{
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use super::Constraint;

/// Constraints that may wait for the thread; more have their masks worked out where they are needed.
const WAITING: usize = 1024;

/// A thread that works out the next masks of constraints, so that they are there when the model's logits are.
#[derive(Debug)]
pub struct Ahead {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    constraint: Box<Constraint>,
    back: SyncSender<Box<Constraint>>,
}

/// A constraint, here or with the thread.
#[derive(Debug)]
pub enum Lent {
    /// Here.
    Here(Box<Constraint>),
    /// It comes back with its mask.
    Away(Receiver<Box<Constraint>>),
}

impl Ahead {
    /// Starts the thread; none where the system has none to give.
    pub fn start() -> Option<Self> {
        let (jobs, queue) = sync_channel::<Job>(WAITING);
        let work = move || {
            for Job { mut constraint, back } in queue {
                // What goes wrong is kept in the constraint, and told again when the mask is asked for.
                drop(constraint.mask());
                drop(back.send(constraint));
            }
        };
        let thread = std::thread::Builder::new().name("masks".to_owned()).spawn(work).ok()?;
        Some(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands a constraint over.
    pub fn lend(&self, constraint: Box<Constraint>) -> Lent {
        let (back, returned) = sync_channel(1);
        let Some(jobs) = &self.jobs else { return Lent::Here(constraint) };
        match jobs.try_send(Job { constraint, back }) {
            Ok(()) => Lent::Away(returned),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Lent::Here(job.constraint),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that works out masks panicked");
        }
    }
}

impl Lent {
    /// The constraint, once it is back; none where the thread has lost it.
    pub fn back(self) -> Option<Box<Constraint>> {
        match self {
            Self::Here(constraint) => Some(constraint),
            Self::Away(returned) => returned.recv().ok(),
        }
    }
}
