use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{Canceller, Error, Session};

/// A thread that owns one instance of a model, its sessions, and runs jobs on them, one after the other.
///
/// The sessions are made, used and freed on that thread alone. Dropping the owner lets the jobs already taken
/// finish and then waits for the thread.
pub struct Owner<S> {
    jobs: Option<SyncSender<Task<S>>>,
    thread: Option<JoinHandle<()>>,
    next: AtomicU64,
    /// Jobs that wait or run.
    pending: Arc<AtomicUsize>,
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
pub struct Ticket(Cancel);

/// What cancels a job from another thread.
#[derive(Clone, Debug)]
pub struct Cancel {
    id: u64,
    cancelled: Arc<AtomicBool>,
    present: Arc<Present>,
}

type Run<S> = Box<dyn FnOnce(&mut S, &Cancel) + Send>;

struct Task<S> {
    cancel: Cancel,
    run: Run<S>,
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
    /// Starts the thread `name`, makes the sessions on it with `open`, and returns when they are ready, with what
    /// `open` tells of them. `capacity` is the most jobs that may wait.
    pub fn spawn<T, E>(name: &str, capacity: usize, open: impl FnOnce() -> Result<(S, T), E> + Send + 'static) -> Result<(Self, T), E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (jobs, queue) = sync_channel::<Task<S>>(capacity);
        let (opened, ready) = sync_channel(1);
        let (present, pending) = (Arc::new(Present::default()), Arc::new(AtomicUsize::new(0)));
        let (shared, left) = (Arc::clone(&present), Arc::clone(&pending));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let (mut sessions, told) = match open() {
                    Ok(opened) => opened,
                    Err(error) => return drop(opened.send(Err(error))),
                };
                let cancellers = sessions.sessions().into_iter().map(|session| session.canceller()).collect();
                drop(shared.cancellers.set(cancellers));
                if opened.send(Ok(told)).is_ok() {
                    for task in queue {
                        run(task, &mut sessions, &shared);
                        left.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            })
            .map_err(|_| Error::Thread(name.to_owned()))?;
        let outcome = ready.recv().unwrap_or_else(|_| Err(Error::Thread(name.to_owned()).into()));
        outcome.map(|told| (Self { jobs: Some(jobs), thread: Some(thread), next: AtomicU64::new(0), pending, present }, told))
    }

    /// Hands a job to the thread. The job answers by whatever means its closure holds; the caller keeps the
    /// ticket until it has the answer.
    pub fn submit(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<Ticket, Full> {
        self.hand(Box::new(move |sessions, _| job(sessions))).map(Ticket)
    }

    /// Hands over a job that is told how it can be cancelled; nothing else cancels it.
    pub fn submit_cancellable(&self, job: impl FnOnce(&mut S, &Cancel) + Send + 'static) -> Result<(), Full> {
        self.hand(Box::new(job)).map(drop)
    }

    fn hand(&self, run: Run<S>) -> Result<Cancel, Full> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let cancel = Cancel { id, cancelled: Arc::new(AtomicBool::new(false)), present: Arc::clone(&self.present) };
        let jobs = self.jobs.as_ref().ok_or(Full)?;
        self.pending.fetch_add(1, Ordering::SeqCst);
        match jobs.try_send(Task { cancel: cancel.clone(), run }) {
            Ok(()) => Ok(cancel),
            // A thread that has panicked is to the caller as good as full; the panic itself is logged.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                Err(Full)
            }
        }
    }

    /// Jobs that wait or run.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::SeqCst)
    }
}

fn run<S: Sessions>(task: Task<S>, sessions: &mut S, present: &Present) {
    // The order matters: a cancellation that comes after `set` finds the sessions armed and ends the run, one
    // that came before is seen in the flag.
    for session in sessions.sessions() {
        session.arm();
    }
    present.set(Some(task.cancel.id));
    if !task.cancel.cancelled.load(Ordering::SeqCst) {
        (task.run)(sessions, &task.cancel);
    }
    present.set(None);
}

impl Cancel {
    /// What cancels nothing: for a job that must run to its end.
    pub fn nothing() -> Self {
        Self { id: u64::MAX, cancelled: Arc::default(), present: Arc::default() }
    }

    /// Cancels the job.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let present = self.present.job.lock().unwrap_or_else(PoisonError::into_inner);
        if *present == Some(self.id) {
            self.present.cancellers.get().into_iter().flatten().for_each(Canceller::cancel);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<S> Drop for Owner<S> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Its own last job may be the one that lets go of the owner: it ends by itself then.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a model's thread panicked");
            }
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
        Owner::spawn::<_, Error>("counter", capacity, || Ok((Counter::default(), ()))).unwrap().0
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
        assert_eq!(owner.pending(), 3);
        drop(cancelled);
        release.send(()).unwrap();
        drop(owner);
        assert_eq!(results.try_iter().collect::<Vec<_>>(), [1]);
        drop((busy, kept));
    }

    #[test]
    fn a_job_may_let_go_of_its_own_owner() {
        let (done, finished) = sync_channel(1);
        let owner = Arc::new(counter(1));
        let own = Arc::clone(&owner);
        owner
            .submit_cancellable(move |_, _| {
                drop(own);
                done.send(()).unwrap();
            })
            .unwrap();
        drop(owner);
        finished.recv().unwrap();
    }

    #[test]
    fn a_failed_open_is_the_spawners_error() {
        let failed = Owner::<Counter>::spawn::<(), _>("broken", 1, || Err(Error::Cancelled));
        assert!(matches!(failed, Err(Error::Cancelled)));
    }
}
