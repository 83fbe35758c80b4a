//! A batch, from the moment it is picked to its answers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    Rejected,
    queue::{Entry, Shared},
};

/// The requests of one batch.
#[derive(Debug)]
pub struct Batch<Q> {
    /// The requests; the answers must come in the same order.
    pub requests: Vec<Q>,
    /// Their rows together.
    pub rows: usize,
    /// How long the first of them has waited.
    pub waited: Duration,
}

/// A turn for one batch. Which requests are in it is decided when it is run. Dropping it unrun fails what waits.
pub struct Work<Q: Send + 'static, A: Send + 'static> {
    shared: Option<Arc<Shared<Q, A>>>,
}

impl<Q: Send + 'static, A: Send + 'static> std::fmt::Debug for Work<Q, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl<Q: Send + 'static, A: Send + 'static> Work<Q, A> {
    pub(crate) fn new(shared: Arc<Shared<Q, A>>) -> Self {
        Self { shared: Some(shared) }
    }

    /// Takes a batch and runs it. `run` gives one answer for each request, in their order. `cancel` is called, from
    /// another thread, when nobody waits for the batch any more.
    pub fn run(mut self, cancel: impl Fn() + Send + Sync + 'static, run: impl FnOnce(Batch<Q>) -> Vec<A>) {
        let Some(shared) = self.shared.take() else { return };
        let running = Arc::new(Running { interested: AtomicUsize::new(0), cancel: Mutex::new(Some(Box::new(cancel))) });
        let Some(taken) = shared.take(&running) else { return shared.ended(false) };
        let Taken { entries, begun } = taken;
        let count = entries.len();
        // Also where `run` panics: the turn must be given back.
        let mut turn = Turn { shared: &shared, requests: count };
        let (mut requests, mut answers) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let (mut rows, mut cost, mut widest, mut waited) = (0, 0, 0, Duration::ZERO);
        for entry in entries {
            let queued = begun.saturating_duration_since(entry.since);
            shared.readings.queued.record(queued);
            waited = waited.max(queued);
            rows += entry.ask.rows;
            widest = widest.max(entry.ask.width);
            cost += entry.ask.rows * entry.ask.width;
            requests.push(entry.request);
            answers.push(entry.answer);
        }
        shared.readings.rows.record(rows as f64);
        let results = run(Batch { requests, rows, waited });
        let seconds = begun.elapsed().as_secs_f64();
        // Before the answers: who has one may be back at once.
        turn.answered();
        if running.end() {
            shared.readings.ran(rows * widest, seconds);
        } else {
            shared.readings.terminated.increment(count as u64);
            shared.readings.saved(cost, seconds);
        }
        // Handing out the wrong number would give a request its neighbour's answer.
        let whole = results.len() == answers.len();
        let mut results = results.into_iter();
        for answer in answers {
            let result = results.next().filter(|_| whole).ok_or(Rejected::Unanswered);
            // The requester may have gone while the batch ran.
            drop(answer.send(result));
        }
    }
}

/// Runs requests together; where that fails, one by one, so that each request has its own outcome. An error that
/// `final_for_all` picks, such as a cancellation, is everybody's at once.
pub fn apart<Q, A, E: Clone>(
    requests: &[Q],
    mut run: impl FnMut(&[Q]) -> Result<Vec<A>, E>,
    final_for_all: impl Fn(&E) -> bool,
) -> Vec<Result<A, E>> {
    match run(requests) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) if requests.len() < 2 || final_for_all(&error) => requests.iter().map(|_| Err(error.clone())).collect(),
        Err(error) => {
            requests.chunks(1).map(|request| run(request).and_then(|answers| answers.into_iter().next().ok_or_else(|| error.clone()))).collect()
        }
    }
}

/// A turn that has taken its batch.
struct Turn<'a, Q: Send + 'static, A: Send + 'static> {
    shared: &'a Arc<Shared<Q, A>>,
    /// How many were taken and not answered.
    requests: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Turn<'_, Q, A> {
    fn answered(&mut self) {
        self.shared.answered(std::mem::take(&mut self.requests));
    }
}

impl<Q: Send + 'static, A: Send + 'static> Drop for Turn<'_, Q, A> {
    fn drop(&mut self) {
        if self.requests > 0 {
            self.answered();
        }
        self.shared.ended(true);
    }
}

impl<Q: Send + 'static, A: Send + 'static> Drop for Work<Q, A> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.abandon();
        }
    }
}

/// Entries that were picked, and when.
pub(crate) struct Taken<Q, A> {
    entries: Vec<Entry<Q, A>>,
    begun: Instant,
}

impl<Q, A> Taken<Q, A> {
    pub(crate) fn new(entries: Vec<Entry<Q, A>>, begun: Instant) -> Self {
        Self { entries, begun }
    }
}

type Cancel = Box<dyn Fn() + Send + Sync>;

/// A batch that runs, and how many still wait for it.
pub(crate) struct Running {
    interested: AtomicUsize,
    /// Taken by whoever cancels the batch, or when it has ended.
    cancel: Mutex<Option<Cancel>>,
}

impl Running {
    pub(crate) fn begin(&self, interested: usize) {
        self.interested.store(interested, Ordering::SeqCst);
    }

    /// One requester less. The last one cancels the batch.
    pub(crate) fn leave(&self) {
        if self.interested.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(cancel) = self.take()
        {
            cancel();
        }
    }

    /// The batch has run. Whether it was for somebody.
    fn end(&self) -> bool {
        self.take().is_some()
    }

    fn take(&self) -> Option<Cancel> {
        self.cancel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
