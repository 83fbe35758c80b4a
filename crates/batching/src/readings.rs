//! What a batcher tells of itself: metrics, with their handles made once.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub(crate) struct Readings {
    pub(crate) rows: Histogram,
    pub(crate) queued: Histogram,
    pub(crate) run: Histogram,
    pub(crate) depth: Gauge,
    pub(crate) expired: Counter,
    pub(crate) withdrawn: Counter,
    pub(crate) terminated: Counter,
    pub(crate) reclaimed: Gauge,
    /// Seconds that one unit of cost takes, as a moving average; the bits of an `f64`.
    pace: AtomicU64,
}

impl Readings {
    pub(crate) fn new(model: &str) -> Self {
        let labels = [("model", model.to_owned())];
        let reclaimed = |stage: &'static str| counter!("quintet_batch_reclaimed_requests_total", "model" => model.to_owned(), "stage" => stage);
        Self {
            rows: histogram!("quintet_batch_rows_size", &labels),
            queued: histogram!("quintet_batch_queue_seconds", &labels),
            run: histogram!("quintet_batch_run_seconds", &labels),
            depth: gauge!("quintet_batch_queue_depth", &labels),
            expired: reclaimed("expired"),
            withdrawn: reclaimed("queued"),
            terminated: reclaimed("running"),
            reclaimed: gauge!("quintet_batch_reclaimed_seconds", &labels),
            pace: AtomicU64::new(0),
        }
    }

    /// A batch of this cost took so long.
    pub(crate) fn ran(&self, cost: usize, seconds: f64) {
        self.run.record(seconds);
        let (before, now) = (self.pace(), seconds / cost.max(1) as f64);
        let after = if before == 0.0 { now } else { 0.9 * before + 0.1 * now };
        self.pace.store(after.to_bits(), Ordering::Relaxed);
    }

    /// How long work of this cost takes; `None` before the first batch.
    pub(crate) fn seconds(&self, cost: usize) -> Option<f64> {
        Some(self.pace()).filter(|pace| *pace > 0.0).map(|pace| pace * cost as f64)
    }

    /// Work of this cost was not done, but for the seconds that it had run already.
    pub(crate) fn saved(&self, cost: usize, elapsed: f64) {
        self.reclaimed.increment((self.seconds(cost).unwrap_or(0.0) - elapsed).max(0.0));
    }

    fn pace(&self) -> f64 {
        f64::from_bits(self.pace.load(Ordering::Relaxed))
    }
}
