//! Evaluations as jobs: bounded, watched, cancelled.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures_util::FutureExt;
use metrics::counter;
use quintet_serving::context::Context;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Metric;
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
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// What it is doing.
    pub stage: &'static str,
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

/// A job; `R` is the request that it was made from.
#[derive(Debug)]
pub struct Job<R> {
    /// Its id.
    pub id: String,
    /// Its request.
    pub request: R,
    /// When it was created.
    pub created_at: SystemTime,
    number: u64,
    snapshot: watch::Sender<Snapshot>,
    cancel: CancellationToken,
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

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshot.send_modify(change);
    }
}

/// How a running job tells of its progress.
#[derive(Debug)]
pub struct Progress<R>(Arc<Job<R>>);

impl<R> Clone for Progress<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Progress<R> {
    /// A new stage begins, of so many steps.
    pub fn stage(&self, stage: &'static str, total: usize) {
        self.0.change(|snapshot| (snapshot.stage, snapshot.done, snapshot.total) = (stage, 0, total));
    }

    /// So many steps of the stage are done.
    pub fn done(&self, done: usize) {
        self.0.change(|snapshot| snapshot.done = done);
    }
}

/// The jobs of a service.
#[derive(Debug)]
pub struct Jobs<R> {
    shared: Arc<Mutex<Table<R>>>,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    max_waiting: usize,
}

#[derive(Debug)]
struct Table<R> {
    jobs: BTreeMap<u64, Arc<Job<R>>>,
    next: u64,
    keep_ended: usize,
}

impl<R> Clone for Jobs<R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            turns: Arc::clone(&self.turns),
            tasks: self.tasks.clone(),
            shutdown: self.shutdown.clone(),
            max_waiting: self.max_waiting,
        }
    }
}

impl<R: Send + Sync + 'static> Jobs<R> {
    /// No jobs yet.
    pub fn new(max_running: usize, max_waiting: usize, keep_ended: usize, tasks: TaskTracker) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Table { jobs: BTreeMap::new(), next: 1, keep_ended })),
            turns: Arc::new(Semaphore::new(max_running)),
            tasks,
            shutdown: CancellationToken::new(),
            max_waiting,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<R>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a job, or refuses at once when too many wait.
    pub fn start<F>(&self, request: R, run: impl FnOnce(Progress<R>) -> F + Send + 'static) -> Result<Arc<Job<R>>, Error>
    where
        F: Future<Output = Result<Vec<Metric>, Error>> + Send + 'static,
    {
        let job = {
            let mut table = self.table();
            let waiting = table.jobs.values().filter(|job| job.snapshot.borrow().state == State::Queued).count();
            // A free turn is taken up at once: a job that starts right away does not wait.
            if waiting >= self.max_waiting + self.turns.available_permits() {
                return Err(Error::Full { waiting, limit: self.max_waiting });
            }
            let snapshot =
                Snapshot { state: State::Queued, stage: "waiting", done: 0, total: 0, metrics: Vec::new(), error: String::new(), ended_at: None };
            let number = table.next;
            table.next += 1;
            let job = Arc::new(Job {
                id: format!("{:016x}", rand::random::<u64>()),
                request,
                created_at: SystemTime::now(),
                number,
                snapshot: watch::channel(snapshot).0,
                cancel: self.shutdown.child_token(),
            });
            table.jobs.insert(number, Arc::clone(&job));
            job
        };
        let (started, turns, jobs) = (Arc::clone(&job), Arc::clone(&self.turns), self.clone());
        // The job goes on for whoever asked for it, beyond the deadline of the call that did.
        let context = Context { deadline: None, ..Context::current() };
        self.tasks.spawn(context.scope(async move {
            let work = async {
                let _turn = turns.acquire().await.map_err(|_| Error::Ended)?;
                started.change(|snapshot| snapshot.state = State::Running);
                run(Progress(Arc::clone(&started))).await
            };
            // A panic ends the job like any other fault: its watchers must hear of an end.
            let work = AssertUnwindSafe(work).catch_unwind().map(|outcome| outcome.unwrap_or(Err(Error::Ended)));
            // Dropping the work takes back what it has under way in other services and on the classifier's thread.
            let outcome = tokio::select! { biased; () = started.cancel.cancelled() => None, outcome = work => Some(outcome) };
            started.change(|snapshot| {
                snapshot.ended_at = Some(SystemTime::now());
                match outcome {
                    None => snapshot.state = State::Cancelled,
                    Some(Ok(metrics)) => (snapshot.state, snapshot.stage, snapshot.metrics) = (State::Succeeded, "done", metrics),
                    Some(Err(error)) => {
                        tracing::warn!(id = started.id, %error, "an evaluation failed");
                        (snapshot.state, snapshot.error) = (State::Failed, error.to_string());
                    }
                }
                counter!("quintet_evaluation_evaluations_total", "state" => format!("{:?}", snapshot.state).to_lowercase()).increment(1);
            });
            jobs.forget();
        }));
        Ok(job)
    }

    /// Drops the oldest ended jobs beyond those that are kept.
    fn forget(&self) {
        let mut table = self.table();
        let ended: Vec<u64> = table.jobs.iter().filter(|(_, job)| job.snapshot.borrow().state.has_ended()).map(|(number, _)| *number).collect();
        let surplus = ended.len().saturating_sub(table.keep_ended);
        for number in ended.into_iter().take(surplus) {
            table.jobs.remove(&number);
        }
    }

    /// A job by its id.
    pub fn find(&self, id: &str) -> Result<Arc<Job<R>>, Error> {
        self.table().jobs.values().find(|job| job.id == id).cloned().ok_or_else(|| Error::UnknownEvaluation(id.to_owned()))
    }

    /// Jobs from the newest, those before the page's end; and where the next page goes on.
    pub fn list(&self, size: usize, before: Option<u64>) -> (Vec<Arc<Job<R>>>, Option<u64>) {
        let table = self.table();
        let page: Vec<Arc<Job<R>>> = table.jobs.range(..before.unwrap_or(u64::MAX)).rev().take(size).map(|(_, job)| Arc::clone(job)).collect();
        let more = page.last().filter(|job| table.jobs.range(..job.number).next().is_some()).map(|job| job.number);
        (page, more)
    }

    /// Cancels all jobs, those to come too.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn jobs(max_waiting: usize, keep: usize) -> Jobs<u32> {
        Jobs::new(1, max_waiting, keep, TaskTracker::new())
    }

    async fn ended(job: &Job<u32>) -> Snapshot {
        let mut watch = job.watch();
        watch.wait_for(|snapshot| snapshot.state.has_ended()).await.unwrap().clone()
    }

    #[tokio::test]
    async fn a_job_runs_to_its_end_and_its_watchers_see_it() {
        let jobs = jobs(4, 4);
        let (go, gate) = oneshot::channel::<()>();
        let job = jobs.start(1, |progress| async move {
            progress.stage("counting", 3);
            progress.done(2);
            gate.await.unwrap();
            Ok(Vec::new())
        });
        let job = job.unwrap();
        let mut watch = job.watch();
        let seen = watch.wait_for(|snapshot| snapshot.done == 2).await.unwrap().clone();
        assert_eq!((seen.state, seen.stage, seen.total), (State::Running, "counting", 3));
        go.send(()).unwrap();
        assert_eq!(ended(&job).await.state, State::Succeeded);
        assert!(job.snapshot().ended_at.is_some());
    }

    #[tokio::test]
    async fn jobs_wait_their_turn_and_too_many_are_refused() {
        let jobs = jobs(1, 4);
        let forever = |_| std::future::pending();
        let first = jobs.start(1, forever).unwrap();
        first.watch().wait_for(|snapshot| snapshot.state == State::Running).await.unwrap();
        let second = jobs.start(2, |_| async { Ok(Vec::new()) }).unwrap();
        assert!(matches!(jobs.start(3, forever), Err(Error::Full { waiting: 1, limit: 1 })));
        assert_eq!(second.snapshot().state, State::Queued);
        first.cancel();
        assert_eq!(ended(&first).await.state, State::Cancelled);
        assert_eq!(ended(&second).await.state, State::Succeeded);
        second.cancel();
        assert_eq!(second.snapshot().state, State::Succeeded, "what has ended stays as it is");
    }

    #[tokio::test]
    async fn shutting_down_cancels_all_and_old_ones_are_forgotten() {
        let jobs = jobs(8, 2);
        for number in 0..4 {
            let job = jobs.start(number, |_| async { Err(Error::Ended) }).unwrap();
            assert_eq!(ended(&job).await.state, State::Failed);
        }
        let running = jobs.start(9, |_| std::future::pending()).unwrap();
        jobs.shut_down();
        assert_eq!(ended(&running).await.state, State::Cancelled);
        jobs.tasks.close();
        jobs.tasks.wait().await;
        let (page, more) = jobs.list(10, None);
        assert_eq!(page.iter().map(|job| job.request).collect::<Vec<_>>(), [9, 3]);
        assert!(more.is_none());
        let (page, more) = jobs.list(1, None);
        assert_eq!(page[0].request, 9);
        assert_eq!(jobs.list(1, more).0[0].request, 3);
    }
}
