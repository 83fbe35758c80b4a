use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::*;

/// A ledger in memory, which can be away.
#[derive(Debug, Default)]
struct Memory(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    rows: BTreeMap<u64, Row>,
    is_away: bool,
}

#[derive(Debug)]
struct Row {
    noted: Noted<u32>,
    attempt: u32,
    lost: u32,
    is_held: bool,
    is_unwanted: bool,
}

impl Memory {
    fn look(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Book>, Error> {
        let book = self.look();
        if book.is_away { Err(Error::Unreachable) } else { Ok(book) }
    }

    /// Another process claims all that is held.
    fn steal(&self) {
        self.look().rows.values_mut().for_each(|row| row.attempt += 1);
    }
}

impl Book {
    /// Notes it for who holds this lease.
    fn note(&mut self, lease: &Lease, noted: Noted<u32>, is_held: bool) -> Option<&Row> {
        let row = self.rows.get_mut(&lease.number).filter(|row| row.attempt == lease.attempt)?;
        (row.noted, row.is_held) = (noted, is_held);
        Some(row)
    }
}

#[async_trait]
impl Ledger<u32> for Memory {
    async fn add(&self, job: Noted<u32>, most: usize) -> Result<Added, Error> {
        let mut book = self.open()?;
        let waiting = book.rows.values().filter(|row| row.noted.snapshot.state == State::Queued).count();
        if waiting >= most {
            return Ok(Added::Full(waiting));
        }
        let number = book.rows.len() as u64 + 1;
        book.rows.insert(number, Row { noted: Noted { number, ..job }, attempt: 0, lost: 0, is_held: false, is_unwanted: false });
        Ok(Added::As(number))
    }

    async fn claim(&self, id: Option<&str>) -> Result<Option<Claim<u32>>, Error> {
        let mut book = self.open()?;
        let is_free = |row: &&mut Row| !row.is_held && !row.noted.snapshot.state.has_ended() && id.is_none_or(|id| row.noted.id == id);
        Ok(book.rows.values_mut().find(is_free).map(|row| {
            (row.attempt, row.is_held) = (row.attempt + 1, true);
            let lease = Lease { number: row.noted.number, attempt: row.attempt };
            Claim { noted: row.noted.clone(), lease, lost: row.lost, is_unwanted: row.is_unwanted }
        }))
    }

    async fn hold(&self, lease: &Lease, job: Noted<u32>) -> Result<Held, Error> {
        Ok(match self.open()?.note(lease, job, true) {
            None => Held::Lost,
            Some(row) if row.is_unwanted => Held::Unwanted,
            Some(_) => Held::On,
        })
    }

    async fn end(&self, lease: &Lease, job: Noted<u32>) -> Result<bool, Error> {
        Ok(self.open()?.note(lease, job, false).is_some())
    }

    async fn give_back(&self, lease: &Lease, job: Noted<u32>) -> Result<(), Error> {
        self.open()?.note(lease, job, false);
        Ok(())
    }

    async fn find(&self, id: &str) -> Result<Option<Noted<u32>>, Error> {
        Ok(self.open()?.rows.values().find(|row| row.noted.id == id).map(|row| row.noted.clone()))
    }

    async fn list(&self, size: usize, before: Option<u64>) -> Result<Vec<Noted<u32>>, Error> {
        let book = self.open()?;
        Ok(book.rows.range(..before.unwrap_or(u64::MAX)).rev().take(size).map(|(_, row)| row.noted.clone()).collect())
    }

    async fn ask_to_cancel(&self, id: &str) -> Result<(), Error> {
        self.open()?.rows.values_mut().filter(|row| row.noted.id == id).for_each(|row| row.is_unwanted = true);
        Ok(())
    }

    async fn forget(&self, _: usize) -> Result<(), Error> {
        Ok(())
    }
}

/// A process of this ledger; each job's work waits for the next of these gates.
fn process(ledger: &Arc<Memory>, gates: Vec<oneshot::Receiver<Result<Vec<Metric>, Error>>>) -> SharedJobs<u32> {
    let gates = Mutex::new(gates.into_iter());
    let worker = move |_: &u32| -> Work<u32> {
        let gate = gates.lock().unwrap().next();
        Box::new(move |_| Box::pin(async move { gate.expect("no work is left").await.unwrap_or(Err(Error::Ended)) }))
    };
    let ledger: Arc<dyn Ledger<u32>> = Arc::clone(ledger) as _;
    SharedJobs::new(ledger, Box::new(worker), Limits { running: 1, waiting: 4, ended: 8 }, TaskTracker::new())
}

async fn until(jobs: &SharedJobs<u32>, id: &str, wanted: impl Fn(State) -> bool) -> Snapshot {
    let mut states = Box::pin(jobs.watch(id).await.unwrap());
    loop {
        let now = states.next().await.unwrap().unwrap().snapshot;
        if wanted(now.state) {
            return now;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_is_noted_when_the_ledger_is_back() {
    let ledger = Arc::new(Memory::default());
    let (go, gate) = oneshot::channel();
    let jobs = process(&ledger, vec![gate]);
    let id = jobs.start(1).await.unwrap().id;
    until(&jobs, &id, |state| state == State::Running).await;
    ledger.look().is_away = true;
    assert!(matches!(jobs.start(2).await, Err(Error::Unreachable)));
    go.send(Ok(Vec::new())).unwrap();
    sleep(LOOK * 20).await;
    assert_eq!(ledger.look().rows[&1].noted.snapshot.state, State::Running);
    ledger.look().is_away = false;
    assert_eq!(until(&jobs, &id, State::has_ended).await.state, State::Succeeded);
    assert_eq!(ledger.look().rows[&1].attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_comes_too_late_changes_nothing() {
    let ledger = Arc::new(Memory::default());
    let (go, first) = oneshot::channel();
    let (_never, second) = oneshot::channel();
    let (last, third) = oneshot::channel();
    let jobs = process(&ledger, vec![first, second, third]);
    let mut ids = Vec::new();
    for request in 0..3 {
        ids.push(jobs.start(request).await.unwrap().id);
    }
    // It ends before it has heard that it lost its lease.
    until(&jobs, &ids[0], |state| state == State::Running).await;
    ledger.look().rows.get_mut(&1).unwrap().attempt += 1;
    go.send(Ok(Vec::new())).unwrap();
    // It hears of that while it works.
    until(&jobs, &ids[1], |state| state == State::Running).await;
    ledger.steal();
    until(&jobs, &ids[2], |state| state == State::Running).await;
    last.send(Err(Error::Mismatch("last".into()))).unwrap();
    assert_eq!(until(&jobs, &ids[2], State::has_ended).await.error, "last");
    for number in [1, 2] {
        assert_eq!(ledger.look().rows[&number].noted.snapshot.state, State::Running, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_when_the_ledger_stays_away_or_the_process_ends() {
    let ledger = Arc::new(Memory::default());
    let (_never, gate) = oneshot::channel();
    let (_nor, other) = oneshot::channel();
    let (jobs, second) = (process(&ledger, vec![gate]), process(&ledger, vec![other]));
    let id = jobs.start(1).await.unwrap().id;
    until(&second, &id, |state| state == State::Running).await;
    let mut watched = Box::pin(second.watch(&id).await.unwrap());
    assert_eq!(watched.next().await.unwrap().unwrap().snapshot.state, State::Running);
    ledger.look().is_away = true;
    assert!(matches!(watched.next().await, Some(Err(Error::Unreachable))));
    assert!(watched.next().await.is_none());
    ledger.look().is_away = false;
    let mut watched = Box::pin(second.watch(&id).await.unwrap());
    watched.next().await.unwrap().unwrap();
    second.shut_down();
    let told = loop {
        match watched.next().await.unwrap() {
            Ok(_) => (),
            Err(told) => break told,
        }
    };
    assert!(matches!(told, Error::Stopping));
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_has_failed_and_what_nobody_runs_is_cancelled_by_who_is_asked() {
    let ledger = Arc::new(Memory::default());
    let (_never, gate) = oneshot::channel();
    let jobs = process(&ledger, vec![gate]);
    let (busy, waiting) = (jobs.start(1).await.unwrap().id, jobs.start(2).await.unwrap().id);
    until(&jobs, &busy, |state| state == State::Running).await;
    assert_eq!(jobs.cancel(&waiting).await.unwrap().snapshot.state, State::Cancelled);
    assert_eq!(jobs.cancel(&busy).await.unwrap().snapshot.state, State::Cancelled);
    assert!(matches!(jobs.cancel("none").await, Err(Error::UnknownEvaluation(_))));
    // No gate is left for it.
    let id = jobs.start(3).await.unwrap().id;
    assert_eq!(until(&jobs, &id, State::has_ended).await.state, State::Failed);
    let (page, more) = jobs.list(2, None).await.unwrap();
    assert_eq!((page.iter().map(|job| job.request).collect::<Vec<_>>(), more), (vec![3, 2], Some(2)));
    assert_eq!(jobs.list(2, more).await.unwrap().0[0].request, 1);
}
