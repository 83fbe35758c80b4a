//! A micro-batcher for models that answer in one run.
//!
//! Requests wait in a bounded queue. A [`Worker`] takes what waits, up to a cost, runs it as one batch and
//! hands each request its own answer. While a batch runs the next one gathers, so that batches grow with load
//! and a lone request never waits; a delay can be set to gather longer.
//!
//! What must hold:
//!
//! * An answer reaches the request it belongs to, whatever it was batched with.
//! * The queue is bounded by cost, and a request that finds it full is refused at once.
//! * A requester that goes away frees its place: its entry is dropped before the batch starts, and the batch
//!   itself is dropped when nobody waits for any of it.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};
use std::{future::Future, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// How much is run together and how much may wait. Costs are in whatever unit the service counts: rows, tokens.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest cost of a batch. A request that alone costs more runs by itself.
    pub max_batch_cost: usize,
    /// The largest cost that may wait.
    pub max_queue_cost: usize,
    /// How long the first request of a batch may wait for company.
    pub max_delay: Duration,
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The queue is full.
    #[error("the queue is full: {waiting} of {limit} units wait")]
    Full {
        /// The cost that waits.
        waiting: usize,
        /// The most that may wait.
        limit: usize,
    },
    /// The worker has ended, or its batch gave no answer.
    #[error("the batch gave no answer")]
    Unanswered,
}

/// The requests of one batch, in the order in which they came.
#[derive(Debug)]
pub struct Batch<Q> {
    /// The requests; the answers must come in the same order.
    pub requests: Vec<Q>,
    /// Their cost together.
    pub cost: usize,
    /// How long the first of them has waited.
    pub waited: Duration,
}

struct Entry<Q, A> {
    request: Q,
    cost: usize,
    since: Instant,
    answer: oneshot::Sender<A>,
    _place: OwnedSemaphorePermit,
}

/// The requesters' side. Cheap to clone; the worker ends when the last clone is gone.
#[derive(Debug)]
pub struct Batcher<Q, A> {
    queue: mpsc::Sender<Entry<Q, A>>,
    places: Arc<Semaphore>,
    limits: Limits,
}

impl<Q, A> Clone for Batcher<Q, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), places: Arc::clone(&self.places), limits: self.limits }
    }
}

/// The side that runs batches: a future for the caller to spawn.
#[derive(Debug)]
pub struct Worker<Q, A> {
    queue: mpsc::Receiver<Entry<Q, A>>,
    limits: Limits,
}

/// A batcher and its worker.
pub fn batcher<Q, A>(limits: Limits) -> (Batcher<Q, A>, Worker<Q, A>) {
    // Every waiting entry holds at least one unit, so the queue itself never fills before the units do.
    let units = limits.max_queue_cost.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let limits = Limits { max_queue_cost: units, ..limits };
    let (sender, receiver) = mpsc::channel(units);
    let batcher = Batcher { queue: sender, places: Arc::new(Semaphore::new(units)), limits };
    (batcher, Worker { queue: receiver, limits })
}

impl<Q, A> Batcher<Q, A> {
    /// Waits for the answer to a request. Dropping the future withdraws the request.
    pub async fn submit(&self, request: Q, cost: usize) -> Result<A, Rejected> {
        let full = || Rejected::Full { waiting: self.limits.max_queue_cost - self.places.available_permits(), limit: self.limits.max_queue_cost };
        // A request that costs more than the whole queue may still wait where nothing else does.
        let units = cost.clamp(1, self.limits.max_queue_cost);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).try_acquire_many_owned(units).map_err(|_| full())?;
        let (answer, answered) = oneshot::channel();
        let entry = Entry { request, cost, since: Instant::now(), answer, _place: place };
        self.queue.try_send(entry).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => Rejected::Unanswered,
        })?;
        answered.await.map_err(|_| Rejected::Unanswered)
    }
}

impl<Q, A> Worker<Q, A> {
    /// Runs batches until the last [`Batcher`] is gone and the queue is empty. `run` gives one answer for each
    /// request, in their order; its future is dropped when nobody waits for the batch any more.
    pub async fn run<F: Future<Output = Vec<A>>>(mut self, mut run: impl FnMut(Batch<Q>) -> F) {
        let mut left_over = None;
        while let Some(entries) = self.gather(&mut left_over).await {
            let (mut requests, mut answers) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
            let (mut cost, mut since) = (0, None);
            for entry in entries.into_iter().filter(|entry| !entry.answer.is_closed()) {
                cost += entry.cost;
                since.get_or_insert(entry.since);
                requests.push(entry.request);
                answers.push(entry.answer);
            }
            let Some(since) = since else { continue };
            let batch = Batch { requests, cost, waited: since.elapsed() };
            tokio::select! {
                biased;
                results = run(batch) => answer(answers, results),
                () = abandoned(&mut answers) => tracing::debug!("a batch was dropped: nobody waits for it"),
            }
        }
    }

    /// The entries of the next batch; `None` at the end. An entry that no longer fits starts the batch after.
    async fn gather(&mut self, left_over: &mut Option<Entry<Q, A>>) -> Option<Vec<Entry<Q, A>>> {
        let first = match left_over.take() {
            Some(entry) => entry,
            None => self.queue.recv().await?,
        };
        let deadline = tokio::time::Instant::from_std(first.since) + self.limits.max_delay;
        let mut cost = first.cost;
        let mut entries = vec![first];
        while cost < self.limits.max_batch_cost {
            let next = match self.queue.try_recv() {
                Ok(entry) => entry,
                Err(_) if self.limits.max_delay.is_zero() => break,
                Err(_) => match tokio::time::timeout_at(deadline, self.queue.recv()).await {
                    Ok(Some(entry)) => entry,
                    Ok(None) | Err(_) => break,
                },
            };
            if cost + next.cost > self.limits.max_batch_cost {
                *left_over = Some(next);
                break;
            }
            cost += next.cost;
            entries.push(next);
        }
        Some(entries)
    }
}

fn answer<A>(answers: Vec<oneshot::Sender<A>>, results: Vec<A>) {
    if answers.len() != results.len() {
        // Handing out what there is could give a request its neighbour's answer.
        tracing::error!(requests = answers.len(), answers = results.len(), "a batch gave the wrong number of answers");
        return;
    }
    for (answer, result) in answers.into_iter().zip(results) {
        // The requester may have gone while the batch ran.
        drop(answer.send(result));
    }
}

/// Ends when every requester has gone.
async fn abandoned<A>(answers: &mut [oneshot::Sender<A>]) {
    for answer in answers {
        answer.closed().await;
    }
}

#[cfg(test)]
mod tests;
