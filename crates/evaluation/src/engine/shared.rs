//! Evaluations that several processes share by a ledger: each is noted there before who asked for it hears of it, waits there for
//! whichever process has a turn free, and is read from there alone. So every process tells the same of it.
//!
//! Who runs a job holds a lease on it, and all that it notes counts only while it does. A process that ends in order gives its jobs
//! back; where it just dies the leases run out. Either way another begins the job anew, but not without end: it may be what processes
//! die of.

use std::{
    fmt,
    future::ready,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{
    Metric,
    job::{Job, Progress, Snapshot, State, count, fresh_id, span},
    journal::Noted,
    ledger::{Added, Claim, Held, Lease, Ledger},
};
use crate::Error;

/// How often the ledger is looked at for what other processes note in it, and how often a job that runs is noted.
const LOOK: Duration = Duration::from_millis(500);

/// How long who follows a job bears with a ledger that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Processes that a job may lose before it has failed.
const MOST_LOST: u32 = 3;

/// A job's work, made from its request.
pub type Work<R> = Box<dyn FnOnce(Progress<R>) -> Pin<Box<dyn Future<Output = Result<Vec<Metric>, Error>> + Send>> + Send>;

/// What makes it.
pub type Worker<R> = Box<dyn Fn(&R) -> Work<R> + Send + Sync>;

/// The jobs of all processes that share a ledger. Clones are the same.
pub struct SharedJobs<R>(Arc<Shared<R>>);

struct Shared<R> {
    ledger: Arc<dyn Ledger<R>>,
    worker: Worker<R>,
    turns: Arc<Semaphore>,
    limits: Limits,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// A job was added by this very process.
    added: Notify,
    /// This process has ended a job, or runs it no more.
    left: Notify,
}

/// How many jobs there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// That run at once in this process.
    pub running: usize,
    /// That wait, in all processes together.
    pub waiting: usize,
    /// That have ended and are kept, of all processes together.
    pub ended: usize,
}

/// Why a process stops to run a job.
enum Stop {
    /// It has ended.
    Ended(Result<Vec<Metric>, Error>),
    /// Somebody wants it cancelled.
    Cancelled,
    /// The process itself ends.
    Leaving,
    /// Another process may have it.
    Lost,
}

impl<R> Clone for SharedJobs<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> fmt::Debug for SharedJobs<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedJobs").field("ledger", &self.0.ledger).field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl<R: Clone + Send + Sync + 'static> SharedJobs<R> {
    /// The jobs of this ledger. From now on this process takes its share of them.
    pub fn new(ledger: Arc<dyn Ledger<R>>, worker: Worker<R>, limits: Limits, tasks: TaskTracker) -> Self {
        let (turns, shutdown) = (Arc::new(Semaphore::new(limits.running)), CancellationToken::new());
        let shared = Arc::new(Shared { ledger, worker, turns, limits, tasks, shutdown, added: Notify::new(), left: Notify::new() });
        shared.tasks.spawn(Arc::clone(&shared).take_turns());
        Self(shared)
    }

    /// Notes a job that waits for its turn, or refuses at once when too many wait.
    pub async fn start(&self, request: R) -> Result<Noted<R>, Error> {
        let job = Noted { number: 0, id: fresh_id(), request, created_at: SystemTime::now(), snapshot: Snapshot::queued() };
        // A free turn is taken up at once: a job that starts right away does not wait.
        let most = self.0.limits.waiting + self.0.turns.available_permits();
        match self.0.ledger.add(job.clone(), most).await? {
            Added::Full(waiting) => Err(Error::Full { waiting, limit: self.0.limits.waiting }),
            Added::As(number) => {
                self.0.added.notify_waiters();
                Ok(Noted { number, ..job })
            }
        }
    }

    /// A job by its id.
    pub async fn find(&self, id: &str) -> Result<Noted<R>, Error> {
        self.0.find(id).await
    }

    /// Jobs from the newest, those before the page's end; and where the next page goes on.
    pub async fn list(&self, size: usize, before: Option<u64>) -> Result<(Vec<Noted<R>>, Option<u64>), Error> {
        // One more says whether there is a next page.
        let mut page = self.0.ledger.list(size.saturating_add(1), before).await?;
        let is_more = page.len() > size;
        page.truncate(size);
        let more = page.last().filter(|_| is_more).map(|job| job.number);
        Ok((page, more))
    }

    /// Follows a job: how it stands now and after each change, to its end. Changes that come fast are told together.
    pub async fn watch(&self, id: &str) -> Result<impl Stream<Item = Result<Noted<R>, Error>> + Send + use<R>, Error> {
        let (shared, first) = (Arc::clone(&self.0), self.0.find(id).await?);
        let rest = stream::try_unfold((shared, first.clone()), |(shared, last)| async move {
            let next = shared.next(&last).await?;
            Ok(next.map(|job| (job.clone(), (shared, job))))
        });
        Ok(stream::once(ready(Ok(first))).chain(rest))
    }

    /// Cancels a job, if it has not ended, and waits for its end.
    pub async fn cancel(&self, id: &str) -> Result<Noted<R>, Error> {
        let shared = &self.0;
        shared.ledger.ask_to_cancel(id).await?;
        loop {
            let mut left = pin!(shared.left.notified());
            left.as_mut().enable();
            let job = shared.find(id).await?;
            if job.snapshot.state.has_ended() {
                return Ok(job);
            }
            // Where nobody runs it, nobody else ends it.
            if let Some(claim) = shared.ledger.claim(Some(id)).await? {
                shared.end(&claim.lease, Noted { snapshot: claim.noted.snapshot.clone().ended(None), ..claim.noted }).await?;
                continue;
            }
            tokio::select! { () = shared.shutdown.cancelled() => return Err(Error::Stopping), () = left => (), () = sleep(LOOK) => () }
        }
    }

    /// Gives all jobs back that run here, and takes no more.
    pub fn shut_down(&self) {
        self.0.shutdown.cancel();
    }
}

impl<R: Clone + Send + Sync + 'static> Shared<R> {
    async fn find(&self, id: &str) -> Result<Noted<R>, Error> {
        self.ledger.find(id).await?.ok_or_else(|| Error::UnknownEvaluation(id.to_owned()))
    }

    /// How a job stands next, other than so; nothing where it has ended.
    async fn next(&self, last: &Noted<R>) -> Result<Option<Noted<R>>, Error> {
        if last.snapshot.state.has_ended() {
            return Ok(None);
        }
        let mut answered = Instant::now();
        loop {
            let left = self.left.notified();
            tokio::select! { () = self.shutdown.cancelled() => return Err(Error::Stopping), () = left => (), () = sleep(LOOK) => () }
            match self.find(&last.id).await {
                Ok(job) if job.snapshot != last.snapshot => return Ok(Some(job)),
                Ok(_) => answered = Instant::now(),
                Err(Error::Unreachable) if answered.elapsed() < PATIENCE => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Claims jobs for as long as this process has turns for them.
    async fn take_turns(self: Arc<Self>) {
        loop {
            let mut added = pin!(self.added.notified());
            added.as_mut().enable();
            // Turns are taken by this task alone: one that was free stays so.
            let is_free = async { self.turns.acquire().await.is_ok() };
            let is_free = tokio::select! { biased; () = self.shutdown.cancelled() => false, is_free = is_free => is_free };
            if !is_free {
                return;
            }
            // The ledger itself says where it cannot be reached.
            if let Ok(Some(claim)) = self.ledger.claim(None).await
                && let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned()
            {
                let span = span(&claim.noted.id);
                self.tasks.spawn(Arc::clone(&self).carry(claim, turn).instrument(span));
                continue;
            }
            tokio::select! { () = self.shutdown.cancelled() => return, () = added => (), () = sleep(LOOK) => () }
        }
    }

    /// A job from its claim to its end, or until another process is to have it.
    async fn carry(self: Arc<Self>, claim: Claim<R>, _turn: OwnedSemaphorePermit) {
        let Claim { noted, lease, lost, is_unwanted } = claim;
        if lease.attempt > 1 {
            tracing::warn!(id = noted.id, attempt = lease.attempt, lost, "an evaluation is taken over");
        }
        let job = Job::new(noted);
        let stop = if is_unwanted {
            Stop::Cancelled
        } else if lost >= MOST_LOST {
            Stop::Ended(Err(Error::Abandoned { lost }))
        } else {
            self.run(&job, &lease).await
        };
        let now = standing(&job, &lease);
        match stop {
            Stop::Ended(outcome) => self.settle(&lease, &now, Some(outcome)).await,
            Stop::Cancelled => self.settle(&lease, &now, None).await,
            Stop::Lost => tracing::warn!(id = job.id, "the lease on an evaluation is lost: another process has it"),
            Stop::Leaving => {
                let left = Snapshot { stage: "given back".into(), done: 0, total: 0, ..now.snapshot.clone() };
                if let Err(error) = self.ledger.give_back(&lease, Noted { snapshot: left, ..now }).await {
                    tracing::warn!(id = job.id, %error, "an evaluation could not be given back: its lease runs out");
                }
            }
        }
        self.left.notify_waiters();
    }

    /// Runs a job while the lease on it lasts.
    async fn run(&self, job: &Arc<Job<R>>, lease: &Lease) -> Stop {
        job.snapshot.send_modify(|snapshot| {
            (snapshot.state, snapshot.stage, snapshot.done, snapshot.total) = (State::Running, "starting".into(), 0, 0);
        });
        // A panic ends the job like any other fault: its watchers must hear of an end.
        let work = AssertUnwindSafe(async { (self.worker)(&job.request)(Progress(Arc::clone(job))).await }).catch_unwind();
        // Dropping the work takes back what it has under way in other services and on the classifier's thread.
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Stop::Leaving,
            stop = self.hold(job, lease) => stop,
            outcome = work => Stop::Ended(outcome.unwrap_or(Err(Error::Ended))),
        }
    }

    /// Notes how a job stands and holds its lease on, until it is lost or the job is to be cancelled.
    async fn hold(&self, job: &Job<R>, lease: &Lease) -> Stop {
        loop {
            // Without an answer the job goes on: nobody can take it meanwhile but by the same ledger.
            match self.ledger.hold(lease, standing(job, lease)).await {
                Ok(Held::On) | Err(_) => (),
                Ok(Held::Unwanted) => return Stop::Cancelled,
                Ok(Held::Lost) => return Stop::Lost,
            }
            sleep(LOOK).await;
        }
    }

    /// Notes how a job ended. Where the ledger does not answer it is tried until it does, or until this process ends.
    async fn settle(&self, lease: &Lease, job: &Noted<R>, outcome: Option<Result<Vec<Metric>, Error>>) {
        if let Some(Err(error)) = &outcome {
            tracing::warn!(id = job.id, %error, "an evaluation failed");
        }
        let ended = Noted { snapshot: job.snapshot.clone().ended(outcome), ..job.clone() };
        loop {
            let is_last = self.shutdown.is_cancelled();
            match self.end(lease, ended.clone()).await {
                Ok(()) => return,
                Err(Error::Unreachable) if !is_last => {
                    tokio::select! { () = self.shutdown.cancelled() => (), () = sleep(LOOK) => () }
                }
                Err(error) => {
                    tracing::error!(id = job.id, %error, "how an evaluation ended could not be noted: it is begun anew");
                    return;
                }
            }
        }
    }

    /// Notes the end of a job, once, and makes room for it among those that have ended.
    async fn end(&self, lease: &Lease, ended: Noted<R>) -> Result<(), Error> {
        let (id, state) = (ended.id.clone(), ended.snapshot.state);
        if !self.ledger.end(lease, ended).await? {
            tracing::warn!(id, "an evaluation's end came too late: another process has it");
            return Ok(());
        }
        count(state);
        self.left.notify_waiters();
        if let Err(error) = self.ledger.forget(self.limits.ended).await {
            tracing::warn!(%error, "old evaluations could not be forgotten");
        }
        Ok(())
    }
}

/// How a job stands here. What was begun anew says so in its stage: its progress begins anew too.
fn standing<R: Clone>(job: &Job<R>, lease: &Lease) -> Noted<R> {
    let mut snapshot = job.snapshot();
    if lease.attempt > 1 {
        snapshot.stage = format!("{} (attempt {})", snapshot.stage, lease.attempt).into();
    }
    job.noted(snapshot)
}

#[cfg(test)]
mod tests;
