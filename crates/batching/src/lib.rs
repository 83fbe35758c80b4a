//! Dynamic batching for models that answer in one run.
//!
//! Requests wait in a queue, by priority and then by age. When an instance of the model is free it takes a batch:
//! [`Work::run`] picks the batch at the very moment it starts, so batches grow with load and a lone request never
//! waits, unless a delay is set to gather longer. What executes the work, and on which thread, is the caller's: the
//! batcher only hands out [`Work`].
//!
//! What must hold:
//!
//! * An answer reaches the request it belongs to, whatever it was batched with; a batch that fails is run again
//!   request by request, so that one bad row fails alone.
//! * The queue is bounded by cost, and a request that finds it full is refused at once.
//! * A requester that goes away frees its place at once. A batch that runs for nobody any more is cancelled.
//! * A request whose deadline has passed is never run.
//! * Requests batch only with requests of the same key, and padding stays under a stated share of a batch.

#![forbid(unsafe_code)]

mod crowd;
mod queue;
mod readings;
mod work;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use work::{Batch, Work, apart};

/// How much is run together and how much may wait. Costs are in whatever unit the service counts: rows, tokens.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest cost of a batch, padding included. A request that alone costs more runs by itself.
    pub max_batch_cost: usize,
    /// The largest cost that may wait.
    pub max_queue_cost: usize,
    /// How long the first request of a batch may wait for company.
    pub max_delay: Duration,
    /// Numbers of rows that the model is fastest at, ascending: a batch is cut to the largest of them that it
    /// reaches, and a batch that reaches the last one waits no longer. Empty = none is preferred.
    pub preferred_rows: Vec<usize>,
    /// How many batches run at once: the instances of the model.
    pub instances: usize,
    /// The largest share of a batch that may be padding: 0 batches only requests of one width.
    pub max_padding: f64,
}

impl Limits {
    /// Batches of up to so many rows, with no delay, no padding and one instance.
    pub fn rows(max_batch_rows: usize, max_queue_rows: usize) -> Self {
        Self {
            max_batch_cost: max_batch_rows,
            max_queue_cost: max_queue_rows,
            max_delay: Duration::ZERO,
            preferred_rows: Vec::new(),
            instances: 1,
            max_padding: 0.0,
        }
    }
}

/// What a request costs, and when it is to be served.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Its rows.
    pub rows: usize,
    /// The width of a row, such as a text's tokens. A batch costs its rows times its widest row.
    pub width: usize,
    /// Requests batch only with those of the same key.
    pub key: u64,
    /// 0 is served first.
    pub priority: u8,
    /// When its answer is of no use any more.
    pub deadline: Option<Instant>,
}

impl Ask {
    /// So many rows of width 1, of ordinary priority and without a deadline.
    pub fn rows(rows: usize) -> Self {
        Self { rows, width: 1, key: 0, priority: 1, deadline: None }
    }

    /// With a deadline.
    #[must_use]
    pub fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// With a priority; 0 is served first.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    fn cost(&self) -> usize {
        self.rows.saturating_mul(self.width)
    }
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
    /// Its deadline passed while it waited.
    #[error("the deadline passed while the request waited")]
    Expired,
    /// The model has gone, or its batch gave no answer.
    #[error("the batch gave no answer")]
    Unanswered,
}

/// What executes work. It must run each piece soon, on a thread of its own; dropping a piece fails its requests.
pub type Executor<Q, A> = dyn Fn(Work<Q, A>) + Send + Sync;

/// The requesters' side. Cheap to clone.
pub struct Batcher<Q: Send + 'static, A: Send + 'static> {
    shared: Arc<queue::Shared<Q, A>>,
}

impl<Q: Send + 'static, A: Send + 'static> Clone for Batcher<Q, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Q: Send + 'static, A: Send + 'static> std::fmt::Debug for Batcher<Q, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl<Q: Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// A batcher whose metrics carry the label `model`, and what executes its work.
    pub fn new(model: &str, limits: Limits, execute: impl Fn(Work<Q, A>) + Send + Sync + 'static) -> Self {
        Self { shared: queue::Shared::new(model, limits, Box::new(execute)) }
    }

    /// Waits for the answer to a request. Dropping the future withdraws the request.
    pub async fn submit(&self, request: Q, ask: Ask) -> Result<A, Rejected> {
        let mut waiting = self.shared.enter(std::iter::once(request), ask)?;
        let waiting = waiting.pop().ok_or(Rejected::Unanswered)?;
        self.gathered(&ask, waiting.answer()).await
    }

    /// The same for several requests of one cost each: they enter the queue together or not at all.
    pub async fn submit_all(&self, requests: Vec<Q>, each: Ask) -> Result<Vec<A>, Rejected> {
        let waiting = self.shared.enter(requests.into_iter(), each)?;
        let answers = async {
            let mut answers = Vec::with_capacity(waiting.len());
            for waiting in waiting {
                answers.push(waiting.answer().await?);
            }
            Ok(answers)
        };
        self.gathered(&each, answers).await
    }

    /// Waits for answers while others may gather; another's turn may bring them before the delay is over.
    async fn gathered<T>(&self, ask: &Ask, answers: impl Future<Output = Result<T, Rejected>>) -> Result<T, Rejected> {
        let mut answers = std::pin::pin!(answers);
        tokio::select! {
            biased;
            answers = &mut answers => return answers,
            () = self.shared.gather(ask) => (),
        }
        answers.await
    }
}

#[cfg(test)]
mod tests;
