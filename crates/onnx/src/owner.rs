use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{Canceller, Error, Session};

/// A thread that owns a model's sessions and runs jobs on them, one after the other.
///
/// The sessions are made, used and freed on that thread alone. Dropping the owner lets the jobs already taken
/// finish and then waits for the thread.
pub struct Owner<S> {
    jobs: Option<SyncSender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
    next: AtomicU64,
    present: Arc<Present>,
}

/// What an owner owns: the sessions that a cancelled job may be running.
pub trait Sessions {
    /// The sessions.
    fn sessions(&mut self) -> Vec<&mut Session>;
}

impl Sessions for Session {
    fn sessions(&mut self) -> Vec<&mut Session> {
        vec![self]
    }
}

/// The owner's queue is full: the caller should answer "try again later".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's queue is full")]
pub struct Full;

/// A job that was handed to an owner. Dropping the ticket cancels the job: it is skipped if it still waits,
/// and its run is ended between two kernels if it is under way.
#[derive(Debug)]
#[must_use = "dropping the ticket cancels the job"]
pub struct Ticket {
    id: u64,
    cancelled: Arc<AtomicBool>,
    present: Arc<Present>,
}

struct Job<S> {
    id: u64,
    cancelled: Arc<AtomicBool>,
    run: Box<dyn FnOnce(&mut S) + Send>,
}

/// The job that runs at present, and how to end it.
#[derive(Debug, Default)]
struct Present {
    job: Mutex<Option<u64>>,
    cancellers: OnceLock<Vec<Canceller>>,
}

impl Present {
    fn set(&self, job: Option<u64>) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = job;
    }
}

impl<S: Sessions + 'static> Owner<S> {
    /// Starts the thread `name`, makes the sessions on it with `open`, and returns when they are ready.
    /// `capacity` is the most jobs that may wait.
    pub fn spawn<E>(name: &str, capacity: usize, open: impl FnOnce() -> Result<S, E> + Send + 'static) -> Result<Self, E>
    where
        E: From<Error> + Send + 'static,
    {
        let (jobs, queue) = sync_channel::<Job<S>>(capacity);
        let (opened, ready) = sync_channel(1);
        let present = Arc::new(Present::default());
        let shared = Arc::clone(&present);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut sessions = match open() {
                    Ok(sessions) => sessions,
                    Err(error) => return drop(opened.send(Err(error))),
                };
                let cancellers = sessions.sessions().into_iter().map(|session| session.canceller()).collect();
                drop(shared.cancellers.set(cancellers));
                if opened.send(Ok(())).is_ok() {
                    for job in queue {
                        run(job, &mut sessions, &shared);
                    }
                }
            })
            .map_err(|_| Error::Thread(name.to_owned()))?;
        let outcome = ready.recv().unwrap_or_else(|_| Err(Error::Thread(name.to_owned()).into()));
        outcome.map(|()| Self { jobs: Some(jobs), thread: Some(thread), next: AtomicU64::new(0), present })
    }

    /// Hands a job to the thread. The job answers by whatever means its closure holds; the caller keeps the
    /// ticket until it has the answer.
    pub fn submit(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<Ticket, Full> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cancelled = Arc::new(AtomicBool::new(false));
        let ticket = Ticket { id, cancelled: Arc::clone(&cancelled), present: Arc::clone(&self.present) };
        let jobs = self.jobs.as_ref().ok_or(Full)?;
        match jobs.try_send(Job { id, cancelled, run: Box::new(job) }) {
            Ok(()) => Ok(ticket),
            // A thread that has panicked is to the caller as good as full; the panic itself is logged.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Full),
        }
    }
}

fn run<S: Sessions>(job: Job<S>, sessions: &mut S, present: &Present) {
    // The order matters: a cancellation that comes after `set` finds the sessions armed and ends the run, one
    // that came before is seen in the flag.
    for session in sessions.sessions() {
        if let Err(error) = session.arm() {
            tracing::error!(%error, "a session cannot be armed");
        }
    }
    present.set(Some(job.id));
    if !job.cancelled.load(Ordering::SeqCst) {
        (job.run)(sessions);
    }
    present.set(None);
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let present = self.present.job.lock().unwrap_or_else(PoisonError::into_inner);
        if *present == Some(self.id) {
            self.present.cancellers.get().into_iter().flatten().for_each(Canceller::cancel);
        }
    }
}

impl<S> Drop for Owner<S> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a model's thread panicked");
        }
    }
}

impl<S> fmt::Debug for Owner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("thread", &self.thread).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[derive(Default)]
    struct Counter(i32);

    impl Sessions for Counter {
        fn sessions(&mut self) -> Vec<&mut Session> {
            Vec::new()
        }
    }

    fn counter(capacity: usize) -> Owner<Counter> {
        Owner::spawn::<Error>("counter", capacity, || Ok(Counter::default())).unwrap()
    }

    #[test]
    fn jobs_run_in_order_on_one_thread_and_drop_waits_for_them() {
        let (sender, results) = sync_channel(3);
        let owner = counter(3);
        let tickets: Vec<_> = (0..3)
            .map(|_| {
                let sender = sender.clone();
                owner.submit(move |counter| {
                    counter.0 += 1;
                    sender.send((counter.0, std::thread::current().name().map(str::to_owned))).unwrap();
                })
            })
            .collect();
        drop(owner);
        drop(tickets);
        let all: Vec<_> = results.try_iter().collect();
        assert_eq!(all, [1, 2, 3].map(|count| (count, Some("counter".to_owned()))));
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_a_dropped_ticket_skips_its_job() {
        let (release, gate) = sync_channel::<()>(0);
        let (entered, started) = sync_channel(1);
        let (sender, results) = sync_channel(3);
        let owner = counter(2);
        let busy = owner.submit(move |_| {
            entered.send(()).unwrap();
            gate.recv().unwrap();
        });
        started.recv().unwrap();
        let submit = |value: i32| {
            let sender = sender.clone();
            owner.submit(move |_| sender.send(value).unwrap())
        };
        let (kept, cancelled) = (submit(1).unwrap(), submit(2).unwrap());
        assert_eq!(submit(3).unwrap_err(), Full);
        drop(cancelled);
        release.send(()).unwrap();
        drop(owner);
        assert_eq!(results.try_iter().collect::<Vec<_>>(), [1]);
        drop((busy, kept));
    }

    #[test]
    fn a_failed_open_is_the_spawners_error() {
        let failed = Owner::<Counter>::spawn("broken", 1, || Err(Error::Cancelled));
        assert!(matches!(failed, Err(Error::Cancelled)));
    }
}
