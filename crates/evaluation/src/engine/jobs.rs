//! Evaluations as jobs: bounded, watched, cancelled, and noted where they shall outlive the process.
//!
//! With a journal a job is noted before who asked for it hears of it, before it runs, and before anybody hears of its end. So
//! what a client was told stays true: a job whose turn had not come is taken up by the next process, and one that was running
//! when its process was killed has failed. It is not run again by itself, since it may be what the process died of.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures_util::FutureExt;
use quintet_serving::{context::Context, telemetry};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{
    Metric,
    job::{Job, Progress, Snapshot, State, count, fresh_id, span},
    journal::{Journal, Noted},
};
use crate::Error;

/// The jobs of a service.
#[derive(Debug)]
pub struct Jobs<R> {
    shared: Arc<Mutex<Table<R>>>,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    max_waiting: usize,
    journal: Option<Arc<dyn Journal<R>>>,
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
            journal: self.journal.clone(),
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
            journal: None,
        }
    }

    /// The same, noted there.
    #[must_use]
    pub fn noted_in(self, journal: Arc<dyn Journal<R>>) -> Self {
        Self { journal: Some(journal), ..self }
    }

    fn table(&self) -> MutexGuard<'_, Table<R>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a job, or refuses at once when too many wait. It runs on where who asked for it does not wait for the answer.
    pub async fn start<F>(&self, request: R, run: impl FnOnce(Progress<R>) -> F + Send + 'static) -> Result<Arc<Job<R>>, Error>
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
            let noted = Noted { number: table.next, id: fresh_id(), request, created_at: SystemTime::now(), snapshot: Snapshot::queued() };
            table.add(noted)
        };
        let (tell, told) = oneshot::channel();
        let (jobs, added) = (self.clone(), Arc::clone(&job));
        // The job goes on for whoever asked for it, beyond the deadline of the call that did.
        let context = Context { deadline: None, ..Context::current() };
        let span = span(&job.id);
        telemetry::go_on_from_here(&span);
        let carried = context.scope(async move {
            let noted = jobs.note(&added, added.snapshot()).await;
            if noted.is_err() {
                jobs.table().jobs.remove(&added.number);
                added.left.cancel();
            }
            let goes_on = noted.is_ok();
            // Who asked may have gone.
            drop(tell.send(noted));
            if goes_on {
                jobs.carry(added, run).await;
            }
        });
        self.tasks.spawn(carried.instrument(span));
        told.await.map_err(|_| Error::Ended)??;
        Ok(job)
    }

    /// Takes up what another process has left: `run` makes the work of a job whose turn had not come.
    pub fn take_up<F, W>(&self, noted: Vec<Noted<R>>, run: impl Fn(&R) -> W) -> Result<(), Error>
    where
        W: FnOnce(Progress<R>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<Metric>, Error>> + Send + 'static,
    {
        for mut noted in noted {
            let was_running = noted.snapshot.state == State::Running;
            if was_running {
                noted.snapshot.state = State::Failed;
                noted.snapshot.error = String::from("the service's process ended while it ran: create it again");
                noted.snapshot.ended_at = Some(SystemTime::now());
            }
            let job = self.table().add(noted);
            match job.snapshot().state {
                State::Queued => {
                    tracing::info!(id = job.id, "an evaluation whose turn had not come is taken up");
                    self.tasks.spawn(self.clone().carry(Arc::clone(&job), run(&job.request)).instrument(span(&job.id)));
                }
                _ if was_running => {
                    tracing::warn!(id = job.id, "an evaluation was running when its process ended");
                    count(State::Failed);
                    if let Some(journal) = &self.journal {
                        journal.note(&job, &job.snapshot())?;
                    }
                }
                _ => (),
            }
        }
        self.forget();
        Ok(())
    }

    /// A job from its queue to its end.
    async fn carry<F>(self, job: Arc<Job<R>>, run: impl FnOnce(Progress<R>) -> F + Send)
    where
        F: Future<Output = Result<Vec<Metric>, Error>> + Send,
    {
        let is_over = async || tokio::select! { () = job.cancel.cancelled() => (), () = self.shutdown.cancelled() => () };
        let turn = tokio::select! { biased; () = is_over() => None, turn = self.turns.acquire() => turn.ok() };
        let outcome = match turn {
            None if self.journal.is_some() && !job.cancel.is_cancelled() => {
                // The next process finds it in the journal.
                job.left.cancel();
                return;
            }
            None => None,
            Some(_turn) => {
                self.change(&job, |snapshot| Snapshot { state: State::Running, ..snapshot }).await;
                // A panic ends the job like any other fault: its watchers must hear of an end.
                let work = AssertUnwindSafe(async { run(Progress(Arc::clone(&job))).await }).catch_unwind();
                let work = work.map(|outcome| outcome.unwrap_or(Err(Error::Ended)));
                // Dropping the work takes back what it has under way in other services and on the classifier's thread.
                tokio::select! { biased; () = is_over() => None, outcome = work => Some(outcome) }
            }
        };
        if let Some(Err(error)) = &outcome {
            tracing::warn!(id = job.id, %error, "an evaluation failed");
        }
        self.change(&job, |snapshot| snapshot.ended(outcome)).await;
        count(job.snapshot().state);
        self.forget();
    }

    /// Changes what is known of a job: in the journal first, so that nobody hears of what could be lost.
    async fn change(&self, job: &Arc<Job<R>>, change: impl FnOnce(Snapshot) -> Snapshot) {
        let snapshot = change(job.snapshot());
        if let Err(error) = self.note(job, snapshot.clone()).await {
            tracing::error!(id = job.id, %error, "how an evaluation stands could not be noted");
        }
        job.snapshot.send_replace(snapshot);
    }

    async fn note(&self, job: &Arc<Job<R>>, snapshot: Snapshot) -> Result<(), Error> {
        let Some(journal) = self.journal.clone() else { return Ok(()) };
        let job = Arc::clone(job);
        tokio::task::spawn_blocking(move || journal.note(&job, &snapshot)).await.map_err(|_| Error::Ended)?
    }

    /// Drops the oldest ended jobs beyond those that are kept.
    fn forget(&self) {
        let dropped: Vec<u64> = {
            let mut table = self.table();
            let ended: Vec<u64> = table.jobs.iter().filter(|(_, job)| job.snapshot.borrow().state.has_ended()).map(|(number, _)| *number).collect();
            let surplus = ended.len().saturating_sub(table.keep_ended);
            ended.into_iter().take(surplus).inspect(|number| drop(table.jobs.remove(number))).collect()
        };
        for number in dropped {
            if let Some(Err(error)) = self.journal.as_ref().map(|journal| journal.forget(number)) {
                tracing::warn!(%error, "an old evaluation could not be forgotten");
            }
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

    /// Cancels all jobs, those to come too; with a journal those that wait are left to the next process.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }
}

impl<R> Table<R> {
    fn add(&mut self, noted: Noted<R>) -> Arc<Job<R>> {
        let job = Job::new(noted);
        self.next = self.next.max(job.number.saturating_add(1));
        self.jobs.insert(job.number, Arc::clone(&job));
        job
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
        let job = job.await.unwrap();
        let mut watch = job.watch();
        let seen = watch.wait_for(|snapshot| snapshot.done == 2).await.unwrap().clone();
        assert_eq!((seen.state, &*seen.stage, seen.total), (State::Running, "counting", 3));
        go.send(()).unwrap();
        assert_eq!(ended(&job).await.state, State::Succeeded);
        assert!(job.snapshot().ended_at.is_some());
    }

    #[tokio::test]
    async fn jobs_wait_their_turn_and_too_many_are_refused() {
        let jobs = jobs(1, 4);
        let forever = |_| std::future::pending();
        let first = jobs.start(1, forever).await.unwrap();
        first.watch().wait_for(|snapshot| snapshot.state == State::Running).await.unwrap();
        let second = jobs.start(2, |_| async { Ok(Vec::new()) }).await.unwrap();
        assert!(matches!(jobs.start(3, forever).await, Err(Error::Full { waiting: 1, limit: 1 })));
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
            let job = jobs.start(number, |_| async { Err(Error::Ended) }).await.unwrap();
            assert_eq!(ended(&job).await.state, State::Failed);
        }
        let running = jobs.start(9, |_| std::future::pending()).await.unwrap();
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
