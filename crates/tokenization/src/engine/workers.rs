//! Where large requests are worked on: a few threads beside the ones that answer the network.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Bytes are counted in blocks of this many, since a semaphore counts to 2³² at most.
const BLOCK: usize = 1 << 10;

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too many bytes wait already.
    Full {
        /// The bytes of this request.
        bytes: usize,
        /// The most bytes in work and waiting.
        limit: usize,
    },
    /// The work panicked, or the process stops.
    Ended,
}

/// Whether the client has gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// True once the client has gone.
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets the flag when the request's future is dropped.
struct OnDrop(Cancelled);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs work that would hold up the network's threads.
#[derive(Debug)]
pub(crate) struct Workers {
    tasks: TaskTracker,
    threads: Arc<Semaphore>,
    blocks: Arc<Semaphore>,
    limit: usize,
}

impl Workers {
    /// At most `threads` pieces of work at once, with at most `max_bytes` in work and waiting.
    pub(crate) fn new(tasks: TaskTracker, threads: usize, max_bytes: usize) -> Self {
        let blocks = max_bytes.div_ceil(BLOCK).min(Semaphore::MAX_PERMITS);
        Self { tasks, threads: Arc::new(Semaphore::new(threads.max(1))), blocks: Arc::new(Semaphore::new(blocks)), limit: max_bytes }
    }

    /// Where tasks run that the process awaits.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs `work` on a thread of its own; `bytes` is what it holds in memory meanwhile. When the caller goes away, what
    /// waits is forgotten and what runs is told.
    pub(crate) async fn run<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce(&Cancelled) -> T + Send + 'static) -> Result<T, Refused> {
        // One request larger than the whole still runs, alone.
        let blocks = bytes.min(self.limit).div_ceil(BLOCK) as u32;
        let held = Arc::clone(&self.blocks).try_acquire_many_owned(blocks).map_err(|_| Refused::Full { bytes, limit: self.limit })?;
        let queued = Instant::now();
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Refused::Ended)?;
        metrics::histogram!("quintet_tokenization_queue_seconds").record(queued.elapsed().as_secs_f64());
        let cancelled = Cancelled::default();
        let _told = OnDrop(cancelled.clone());
        let work = move || {
            let result = work(&cancelled);
            // Held until here and not by the caller, who may go away while the work still runs.
            drop((held, thread));
            result
        };
        self.tasks.spawn_blocking(work).await.map_err(|_| Refused::Ended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn more_bytes_than_the_limit_are_refused_and_room_comes_back() {
        let workers = Workers::new(TaskTracker::new(), 1, 4 * BLOCK);
        let (go, wait) = mpsc::sync_channel::<()>(0);
        let busy = workers.run(3 * BLOCK, move |_| wait.recv().is_err());
        tokio::pin!(busy);
        // Polled once, so that it holds its bytes.
        tokio::select! { biased; _ = &mut busy => panic!("it waits"), () = std::future::ready(()) => {} }
        assert_eq!(workers.run(2 * BLOCK, |_| ()).await, Err(Refused::Full { bytes: 2 * BLOCK, limit: 4 * BLOCK }));
        drop(go);
        assert_eq!(busy.await, Ok(true));
        assert_eq!(workers.run(9 * BLOCK, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_learns_that_its_client_has_gone() {
        let tasks = TaskTracker::new();
        let workers = Workers::new(tasks.clone(), 1, BLOCK);
        let (seen, result) = mpsc::sync_channel(1);
        let (go, wait) = mpsc::sync_channel::<()>(0);
        {
            let run = workers.run(1, move |cancelled| {
                let _ = wait.recv();
                let _ = seen.send(cancelled.get());
            });
            tokio::pin!(run);
            tokio::select! { biased; _ = &mut run => panic!("it waits"), () = std::future::ready(()) => {} }
        }
        drop(go);
        tasks.close();
        tasks.wait().await;
        assert_eq!(result.recv(), Ok(true));
    }

    #[tokio::test]
    async fn a_panic_stays_where_it_happened() {
        let workers = Workers::new(TaskTracker::new(), 1, BLOCK);
        assert_eq!(workers.run(1, |_| panic!("as a broken tokenizer may")).await, Err::<(), _>(Refused::Ended));
        assert_eq!(workers.run(BLOCK, |_| 1).await, Ok(1));
    }
}
