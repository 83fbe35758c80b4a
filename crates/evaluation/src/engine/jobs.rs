//! Evaluations as jobs: a bounded queue, a bounded number that run, and a bounded memory of those that have ended.

mod job;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use metrics::{counter, histogram};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use self::job::{Job, Progress, Snapshot, State};
use crate::{
    Error,
    engine::{Metric, Plan},
};

/// What runs an evaluation.
pub type Runner = Arc<dyn Fn(Progress, Plan) -> BoxFuture<'static, Result<Vec<Metric>, Error>> + Send + Sync>;

/// How many evaluations there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// That run at once.
    pub running: usize,
    /// That wait.
    pub waiting: usize,
    /// That have ended and are kept.
    pub finished: usize,
}

/// All evaluations. Dropping it cancels those under way.
pub struct Jobs {
    table: Arc<Table>,
    run: Runner,
    tasks: TaskTracker,
    _close: DropGuard,
}

struct Table {
    limits: Limits,
    closing: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<u64, Arc<Job>>,
    ids: HashMap<String, u64>,
    waiting: VecDeque<Arc<Job>>,
    running: usize,
    /// Those that have ended, in the order in which they did.
    finished: VecDeque<u64>,
    next: u64,
}

impl Jobs {
    /// No evaluations yet. Those to come are spawned on `tasks` and run by `run`.
    pub fn new(limits: Limits, tasks: TaskTracker, run: Runner) -> Self {
        let closing = CancellationToken::new();
        let table = Table { limits, closing: closing.clone(), inner: Mutex::default() };
        Self { table: Arc::new(table), run, tasks, _close: closing.drop_guard() }
    }

    /// Starts an evaluation, or puts it in the queue.
    pub fn create(&self, plan: Plan) -> Result<Arc<Job>, Error> {
        let table = &self.table;
        let mut inner = table.lock();
        if table.closing.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let starts = inner.running < table.limits.running;
        if !starts && inner.waiting.len() >= table.limits.waiting {
            return Err(Error::Full { waiting: inner.waiting.len(), limit: table.limits.waiting });
        }
        let sequence = inner.next;
        inner.next += 1;
        let job = Arc::new(Job::new(sequence, plan, table.closing.child_token()));
        inner.ids.insert(job.snapshot().id, sequence);
        inner.jobs.insert(sequence, Arc::clone(&job));
        if starts {
            inner.running += 1;
            self.tasks.spawn(work(Arc::clone(table), Arc::clone(&self.run), Arc::clone(&job)));
        } else {
            inner.waiting.push_back(Arc::clone(&job));
        }
        Ok(job)
    }

    /// An evaluation.
    pub fn get(&self, id: &str) -> Result<Arc<Job>, Error> {
        let inner = self.table.lock();
        let job = inner.ids.get(id).and_then(|sequence| inner.jobs.get(sequence));
        job.cloned().ok_or_else(|| Error::UnknownEvaluation(id.to_owned()))
    }

    /// Up to `count` evaluations, the newest first, below the place `below`; and the place to go on from, if there are
    /// more.
    pub fn list(&self, below: Option<u64>, count: usize) -> (Vec<Arc<Job>>, Option<u64>) {
        let inner = self.table.lock();
        let mut newest_first = inner.jobs.range(..below.unwrap_or(u64::MAX)).rev();
        let page: Vec<Arc<Job>> = newest_first.by_ref().take(count).map(|(_, job)| Arc::clone(job)).collect();
        let next = if newest_first.next().is_some() { page.last().map(|job| job.sequence) } else { None };
        (page, next)
    }

    /// Cancels an evaluation, at once; one that has ended stays as it is.
    pub fn cancel(&self, id: &str) -> Result<Arc<Job>, Error> {
        let job = self.get(id)?;
        let mut inner = self.table.lock();
        job.cancelled.cancel();
        inner.waiting.retain(|waiting| waiting.sequence != job.sequence);
        inner.end(&job, Err(Error::Cancelled), self.table.limits);
        drop(inner);
        Ok(job)
    }

    /// Cancels all evaluations and takes no more.
    pub fn close(&self) {
        let mut inner = self.table.lock();
        self.table.closing.cancel();
        inner.waiting.clear();
        let jobs: Vec<Arc<Job>> = inner.jobs.values().cloned().collect();
        jobs.iter().for_each(|job| inner.end(job, Err(Error::ShuttingDown), self.table.limits));
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends an evaluation and takes up the next that waits.
    fn next(&self, ended: &Arc<Job>, outcome: Result<Vec<Metric>, Error>) -> Option<Arc<Job>> {
        let mut inner = self.lock();
        inner.end(ended, outcome, self.limits);
        let next = inner.waiting.pop_front();
        if next.is_none() {
            inner.running -= 1;
        }
        next
    }
}

impl Inner {
    fn end(&mut self, job: &Arc<Job>, outcome: Result<Vec<Metric>, Error>, limits: Limits) {
        if let Err(error) = &outcome {
            tracing::debug!(evaluation = job.snapshot().id, %error, "an evaluation ends without metrics");
        }
        if !job.end(outcome) {
            return;
        }
        counter!("quintet_evaluation_evaluations_total", "state" => job.snapshot().state.label()).increment(1);
        self.finished.push_back(job.sequence);
        while self.finished.len() > limits.finished {
            let Some(oldest) = self.finished.pop_front() else { break };
            if let Some(forgotten) = self.jobs.remove(&oldest) {
                self.ids.remove(&forgotten.snapshot().id);
            }
        }
    }
}

/// Runs an evaluation and then those that wait, one after the other.
async fn work(table: Arc<Table>, run: Runner, mut job: Arc<Job>) {
    loop {
        let outcome = if job.start() {
            histogram!("quintet_evaluation_queue_seconds").record(job.created.elapsed());
            let begun = std::time::Instant::now();
            let running = AssertUnwindSafe(run(Progress(Arc::clone(&job)), job.snapshot().plan)).catch_unwind();
            let outcome = tokio::select! {
                biased;
                () = job.cancelled.cancelled() => Err(Error::Cancelled),
                // What panicked is in the log already.
                outcome = running => outcome.unwrap_or(Err(Error::Ended)),
            };
            histogram!("quintet_evaluation_run_seconds").record(begun.elapsed());
            outcome
        } else {
            Err(Error::Cancelled)
        };
        job = match table.next(&job, outcome) {
            Some(next) => next,
            None => return,
        };
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("limits", &self.table.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
