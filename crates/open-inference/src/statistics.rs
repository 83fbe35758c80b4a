//! What has been run of a graph, with Triton's meaning: see the contract's `ModelStatistics`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quintet_proto::inference::{InferBatchStatistics, InferStatistics, StatisticDuration};

/// Batch sizes that are counted apart; those beyond are counted with the largest.
const MAX_SIZES: usize = 4096;

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    count: u64,
    time: Duration,
}

impl Total {
    fn add(&mut self, count: u64, time: Duration) {
        self.count += count;
        self.time += time * u32::try_from(count).unwrap_or(u32::MAX);
    }

    #[allow(clippy::unnecessary_wraps, reason = "every field that holds it is optional, as the contract's language has it")]
    fn message(self) -> Option<StatisticDuration> {
        Some(StatisticDuration { count: self.count, ns: u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX) })
    }
}

#[derive(Debug, Default)]
struct Counts {
    last: Option<SystemTime>,
    rows: u64,
    runs: u64,
    success: Total,
    fail: Total,
    queue: Total,
    input: Total,
    infer: Total,
    output: Total,
    /// Run time of all rows together.
    running: Duration,
    by_size: BTreeMap<usize, [Total; 3]>,
}

/// A graph's statistics.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Counts>);

/// What the contract says of a graph.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) last_inference: u64,
    pub(crate) rows: u64,
    pub(crate) runs: u64,
    pub(crate) requests: InferStatistics,
    pub(crate) batches: Vec<InferBatchStatistics>,
}

impl Statistics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has ended.
    pub(crate) fn ended(&self, after: Duration, is_ok: bool) {
        let mut counts = self.lock();
        counts.last = Some(SystemTime::now());
        let counted = if is_ok { &mut counts.success } else { &mut counts.fail };
        counted.add(1, after);
    }

    /// Requests, or pieces of them, have waited so long for their run.
    pub(crate) fn queued(&self, times: impl Iterator<Item = Duration>) {
        let mut counts = self.lock();
        times.for_each(|time| counts.queue.add(1, time));
    }

    /// A batch of so many rows, of so many requests, has run.
    pub(crate) fn ran(&self, rows: usize, requests: usize, timing: Timing) {
        let mut counts = self.lock();
        counts.rows += rows as u64;
        counts.runs += 1;
        counts.running += timing.infer;
        counts.input.add(requests as u64, timing.input);
        counts.infer.add(requests as u64, timing.infer);
        counts.output.add(requests as u64, timing.output);
        let size = rows.min(MAX_SIZES);
        let by_size = counts.by_size.entry(size).or_default();
        for (total, time) in by_size.iter_mut().zip([timing.input, timing.infer, timing.output]) {
            total.add(1, time);
        }
    }

    /// How long a row takes to run, on average.
    pub(crate) fn nanoseconds_per_row(&self) -> f64 {
        let counts = self.lock();
        counts.running.as_nanos() as f64 / counts.rows.max(1) as f64
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let counts = self.lock();
        let last = counts.last.and_then(|last| last.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Snapshot {
            last_inference: u64::try_from(last.as_millis()).unwrap_or(u64::MAX),
            rows: counts.rows,
            runs: counts.runs,
            requests: InferStatistics {
                success: counts.success.message(),
                fail: counts.fail.message(),
                queue: counts.queue.message(),
                compute_input: counts.input.message(),
                compute_infer: counts.infer.message(),
                compute_output: counts.output.message(),
                cache_hit: Total::default().message(),
                cache_miss: Total::default().message(),
            },
            batches: counts
                .by_size
                .iter()
                .map(|(size, [input, infer, output])| InferBatchStatistics {
                    batch_size: *size as u64,
                    compute_input: input.message(),
                    compute_infer: infer.message(),
                    compute_output: output.message(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_once_as_a_run_and_once_for_each_of_its_requests() {
        let statistics = Statistics::default();
        let timing = Timing { input: Duration::from_nanos(1), infer: Duration::from_nanos(40), output: Duration::from_nanos(2) };
        statistics.ran(8, 3, timing);
        statistics.ran(8, 1, timing);
        statistics.ran(2, 1, timing);
        statistics.ended(Duration::from_nanos(100), true);
        statistics.ended(Duration::from_nanos(10), false);
        let snapshot = statistics.snapshot();
        assert_eq!((snapshot.rows, snapshot.runs), (18, 3));
        let requests = snapshot.requests;
        assert_eq!(requests.compute_infer, Some(StatisticDuration { count: 5, ns: 200 }));
        assert_eq!((requests.success.unwrap().ns, requests.fail.unwrap().count), (100, 1));
        let sizes: Vec<(u64, u64)> = snapshot.batches.iter().map(|batch| (batch.batch_size, batch.compute_infer.unwrap().count)).collect();
        assert_eq!(sizes, [(2, 1), (8, 2)]);
        assert!((statistics.nanoseconds_per_row() - 120.0 / 18.0).abs() < 1e-9);
        assert!(snapshot.last_inference > 1_600_000_000_000);
    }
}
