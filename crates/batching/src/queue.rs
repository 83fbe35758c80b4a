//! Who waits, in which order, and who left.

use std::{
    collections::{BTreeMap, btree_map::Entry as Slot},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    Ask, Executor, Limits, Rejected, Work,
    crowd::Crowd,
    readings::Readings,
    work::{Running, Taken},
};

/// How many of those that wait a batch is picked from.
const WINDOW: usize = 1024;

/// Work that takes less than this together is not spread over instances: waking another thread costs more than it gains.
const WORTH_SPREADING_SECONDS: f64 = 300e-6;

/// The part of a batch's time that an instance waits for requesters to come back before it begins the batch: those that were
/// answered together tend to ask together, and a batch begun with the first of them would leave out the others.
const RETURN_PART: f64 = 1.0 / 16.0;

/// The least that it waits for them. Where a batch takes no longer than this, waking threads for each request costs more than the
/// work, and a moment's patience gives all of them one batch.
const RETURN_SECONDS: f64 = 100e-6;

/// A place in the queue: priority, then age.
type Place = (u8, u64);

pub(crate) struct Entry<Q, A> {
    pub(crate) request: Q,
    pub(crate) ask: Ask,
    pub(crate) since: Instant,
    pub(crate) answer: oneshot::Sender<Result<A, Rejected>>,
    /// Filled in when the entry is taken into a batch.
    pub(crate) running: Arc<OnceLock<Arc<Running>>>,
}

pub(crate) struct Queue<Q, A> {
    entries: BTreeMap<Place, Entry<Q, A>>,
    /// The cost of all that wait.
    cost: usize,
    /// Pieces of work handed out that have not ended.
    working: usize,
    /// Of these, those that have taken their batch.
    running: usize,
    /// Requests in batches that run.
    taken: usize,
    /// All of these and those that wait.
    crowd: Crowd,
    /// The fewest that an instance waits for; [`usize::MAX`] where none does.
    awaited: usize,
}

impl<Q, A> Queue<Q, A> {
    /// One that waited waits no more, and was not run.
    fn left(&mut self, ask: &Ask) {
        self.cost = self.cost.saturating_sub(ask.cost());
        self.crowd.leave(1);
    }
}

pub(crate) struct Shared<Q: Send + 'static, A: Send + 'static> {
    pub(crate) limits: Limits,
    pub(crate) readings: Readings,
    queue: Mutex<Queue<Q, A>>,
    /// Told when as many wait as an instance waits for.
    gathered: Condvar,
    next: AtomicU64,
    execute: Box<Executor<Q, A>>,
}

impl<Q: Send + 'static, A: Send + 'static> Shared<Q, A> {
    pub(crate) fn new(model: &str, mut limits: Limits, execute: Box<Executor<Q, A>>) -> Arc<Self> {
        limits.instances = limits.instances.max(1);
        limits.max_queue_cost = limits.max_queue_cost.max(1);
        let queue = Queue { entries: BTreeMap::new(), cost: 0, working: 0, running: 0, taken: 0, crowd: Crowd::default(), awaited: usize::MAX };
        Arc::new(Self {
            limits,
            readings: Readings::new(model),
            queue: Mutex::new(queue),
            gathered: Condvar::new(),
            next: AtomicU64::new(0),
            execute,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Q, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes requests into the queue, all or none. Those that go at once are handed to the executor.
    pub(crate) fn enter(self: &Arc<Self>, requests: impl ExactSizeIterator<Item = Q>, ask: Ask) -> Result<Vec<Waiting<Q, A>>, Rejected> {
        let count = requests.len();
        let cost = ask.cost().saturating_mul(count);
        let mut waiting = Vec::with_capacity(count);
        {
            let mut queue = self.lock();
            // One request that alone costs more than the whole queue may still wait where nothing else does; many may not.
            if (count > 1 || !queue.entries.is_empty()) && queue.cost.saturating_add(cost) > self.limits.max_queue_cost {
                return Err(Rejected::Full { waiting: queue.cost, limit: self.limits.max_queue_cost });
            }
            let since = Instant::now();
            for request in requests {
                let place = (ask.priority, self.next.fetch_add(1, Ordering::Relaxed));
                let (answer, answered) = oneshot::channel();
                let running = Arc::new(OnceLock::new());
                queue.entries.insert(place, Entry { request, ask, since, answer, running: Arc::clone(&running) });
                waiting.push(Waiting { shared: Arc::clone(self), place, answered, running });
            }
            queue.cost += cost;
            queue.crowd.enter(count);
            self.readings.depth.set(queue.entries.len() as f64);
            if queue.entries.len() >= queue.awaited {
                self.gathered.notify_all();
            }
        }
        if self.limits.max_delay.is_zero() {
            self.hand_out();
        }
        Ok(waiting)
    }

    /// Where a delay is set, waits until the batch is full or the delay is over, and hands the work out then.
    pub(crate) async fn gather(self: &Arc<Self>, ask: &Ask) {
        if self.limits.max_delay.is_zero() {
            return;
        }
        let full = {
            let queue = self.lock();
            let rows: usize = queue.entries.values().take(WINDOW).map(|entry| entry.ask.rows).sum();
            queue.cost >= self.limits.max_batch_cost || self.limits.preferred_rows.last().is_some_and(|preferred| rows >= *preferred)
        };
        if !full {
            let over = Instant::now() + self.limits.max_delay;
            if let Some(deadline) = ask.deadline.filter(|deadline| *deadline < over) {
                tokio::time::sleep_until(deadline.into()).await;
                // Its own time is over, and not the delay of those that came after it.
                self.expire(&mut self.lock(), usize::MAX, Instant::now());
                return;
            }
            tokio::time::sleep_until(over.into()).await;
        }
        // Each that waits has a timer of its own, so one that goes away meanwhile leaves nobody waiting.
        self.hand_out();
    }

    /// Hands out work while something waits and an instance is free.
    pub(crate) fn hand_out(self: &Arc<Self>) {
        loop {
            {
                let mut queue = self.lock();
                // Work that has not taken its batch yet will take what waits.
                let idle = queue.working - queue.running;
                if queue.working >= self.limits.instances || queue.entries.len() <= idle {
                    return;
                }
                // What runs will take the rest when it has ended.
                if queue.working > 0 && !self.is_worth_spreading(queue.cost) {
                    return;
                }
                queue.working += 1;
            }
            (self.execute)(Work::new(Arc::clone(self)));
        }
    }

    /// Takes the next batch; `None` where nothing waits any more.
    pub(crate) fn take(&self, running: &Arc<Running>) -> Option<Taken<Q, A>> {
        let mut queue = self.wait_for_return(self.lock());
        let now = Instant::now();
        let places = self.pick(&mut queue, now)?;
        let mut entries = Vec::with_capacity(places.len());
        running.begin(places.len());
        for place in places {
            if let Some(entry) = queue.entries.remove(&place) {
                queue.cost = queue.cost.saturating_sub(entry.ask.cost());
                // Set under the queue's lock: who leaves now finds either the entry here or the batch there.
                drop(entry.running.set(Arc::clone(running)));
                entries.push(entry);
            }
        }
        queue.running += 1;
        queue.taken += entries.len();
        self.readings.depth.set(queue.entries.len() as f64);
        Some(Taken::new(entries, now))
    }

    fn is_worth_spreading(&self, cost: usize) -> bool {
        // Before the first batch nobody knows.
        self.readings.seconds(cost).is_none_or(|seconds| seconds >= WORTH_SPREADING_SECONDS)
    }

    /// Waits a moment for requesters that are to be expected; see [`RETURN_PART`].
    fn wait_for_return<'a>(&self, mut queue: MutexGuard<'a, Queue<Q, A>>) -> MutexGuard<'a, Queue<Q, A>> {
        let begun = Instant::now();
        loop {
            let (waiting, expected) = (queue.entries.len(), self.expected(&queue));
            let patience = if waiting >= expected || queue.cost >= self.limits.max_batch_cost {
                Duration::ZERO
            } else {
                let seconds = self.readings.seconds(queue.cost / waiting.max(1) * expected);
                Duration::from_secs_f64(seconds.map_or(0.0, |seconds| (seconds * RETURN_PART).max(RETURN_SECONDS)))
            };
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                // Another instance that waits says again for how many.
                if std::mem::replace(&mut queue.awaited, usize::MAX) < usize::MAX {
                    self.gathered.notify_all();
                }
                return queue;
            }
            queue.awaited = queue.awaited.min(expected);
            queue = self.gathered.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many requests the next batch should have: of those that are to be expected, the share of one instance.
    fn expected(&self, queue: &Queue<Q, A>) -> usize {
        let crowd = queue.crowd.size();
        let each = queue.cost / queue.entries.len().max(1);
        let share = if self.is_worth_spreading(each.saturating_mul(crowd)) { crowd.div_ceil(self.limits.instances) } else { crowd };
        crowd.saturating_sub(queue.taken).min(share)
    }

    /// A batch of so many requests has run, and they will have their answers.
    pub(crate) fn answered(&self, requests: usize) {
        let mut queue = self.lock();
        queue.taken = queue.taken.saturating_sub(requests);
        queue.crowd.answered(requests);
    }

    /// Answers those of the first `within` whose deadline has passed.
    fn expire(&self, queue: &mut Queue<Q, A>, within: usize, now: Instant) {
        let expired: Vec<Place> = queue
            .entries
            .iter()
            .take(within)
            .filter(|(_, entry)| entry.ask.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(place, _)| *place)
            .collect();
        for place in expired {
            if let Some(entry) = queue.entries.remove(&place) {
                queue.left(&entry.ask);
                self.readings.expired.increment(1);
                self.readings.saved(entry.ask.cost(), 0.0);
                drop(entry.answer.send(Err(Rejected::Expired)));
            }
        }
    }

    /// The places of the next batch: the first that waits, and of those behind it what fits.
    fn pick(&self, queue: &mut Queue<Q, A>, now: Instant) -> Option<Vec<Place>> {
        self.expire(queue, WINDOW, now);
        // Instances that wait for work get their share of it.
        let free = if self.is_worth_spreading(queue.cost) { self.limits.instances - queue.running.min(self.limits.instances - 1) } else { 1 };
        let share = queue.cost.div_ceil(free).clamp(1, self.limits.max_batch_cost.max(1));
        let mut candidates = queue.entries.iter().take(WINDOW);
        let (place, first) = candidates.next()?;
        let (mut places, mut rows, mut widest, mut real) = (vec![*place], first.ask.rows, first.ask.width, first.ask.cost());
        let mut ends = Vec::new();
        if self.limits.preferred_rows.contains(&rows) {
            ends.push((places.len(), rows));
        }
        for (place, entry) in candidates {
            if rows * widest >= share {
                break;
            }
            if entry.ask.key != first.ask.key {
                continue;
            }
            let (more, wider) = (rows + entry.ask.rows, widest.max(entry.ask.width));
            let (padded, used) = (more.saturating_mul(wider), real + entry.ask.cost());
            if padded > self.limits.max_batch_cost || (padded - used) as f64 > self.limits.max_padding * padded as f64 {
                continue;
            }
            (rows, widest, real) = (more, wider, used);
            places.push(*place);
            if self.limits.preferred_rows.contains(&rows) {
                ends.push((places.len(), rows));
            }
        }
        if let Some((length, _)) = ends.last() {
            places.truncate(*length);
        }
        Some(places)
    }

    /// A piece of work has ended; `ran` where it had taken a batch.
    pub(crate) fn ended(self: &Arc<Self>, ran: bool) {
        {
            let mut queue = self.lock();
            queue.working = queue.working.saturating_sub(1);
            if ran {
                queue.running = queue.running.saturating_sub(1);
            }
        }
        self.hand_out();
    }

    /// A piece of work was dropped unrun, because the model has gone: nobody will answer those that wait.
    pub(crate) fn abandon(&self) {
        let left = {
            let mut queue = self.lock();
            queue.working = queue.working.saturating_sub(1);
            queue.cost = 0;
            let waiting = queue.entries.len();
            queue.crowd.leave(waiting);
            std::mem::take(&mut queue.entries)
        };
        for (_, entry) in left {
            drop(entry.answer.send(Err(Rejected::Unanswered)));
        }
    }
}

/// A requester's hold on its entry. Dropping it withdraws the entry, or its interest in the batch that runs.
pub(crate) struct Waiting<Q: Send + 'static, A: Send + 'static> {
    shared: Arc<Shared<Q, A>>,
    place: Place,
    answered: oneshot::Receiver<Result<A, Rejected>>,
    running: Arc<OnceLock<Arc<Running>>>,
}

impl<Q: Send + 'static, A: Send + 'static> Waiting<Q, A> {
    pub(crate) async fn answer(mut self) -> Result<A, Rejected> {
        (&mut self.answered).await.unwrap_or(Err(Rejected::Unanswered))
    }
}

impl<Q: Send + 'static, A: Send + 'static> Drop for Waiting<Q, A> {
    fn drop(&mut self) {
        if let Some(running) = self.running.get() {
            running.leave();
            return;
        }
        let left = {
            let mut queue = self.shared.lock();
            match queue.entries.entry(self.place) {
                Slot::Occupied(entry) => {
                    let entry = entry.remove();
                    queue.left(&entry.ask);
                    Some(entry)
                }
                Slot::Vacant(_) => None,
            }
        };
        match left {
            Some(entry) => {
                self.shared.readings.withdrawn.increment(1);
                self.shared.readings.saved(entry.ask.cost(), 0.0);
            }
            // Taken between the look above and the lock.
            None => self.running.get().into_iter().for_each(|running| running.leave()),
        }
    }
}
