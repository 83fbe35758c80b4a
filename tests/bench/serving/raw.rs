//! The raw loop: sessions that do nothing but run, in this process.

use std::{
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ndarray::ArrayD;
use quintet_onnx::{Provider, Runtime, RuntimeConfig, ServingSettings, Session, Tensor};

/// How long a rate is measured.
const SPAN: Duration = Duration::from_secs(2);

/// How the loop uses the machine: so many sessions at once, each with so many threads of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrangement {
    pub(crate) sessions: usize,
    pub(crate) threads: usize,
}

pub(crate) fn runtime() -> Runtime {
    Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: true, cuda_graphs: true })
        .expect("the library: scripts/onnxruntime")
}

fn open(runtime: &Runtime, graph: &Path, threads: usize) -> Session {
    Session::open(runtime, graph, &ServingSettings { threads: Some(threads), ..ServingSettings::default() })
        .expect("the graph: scripts/bench makes it")
}

fn rows(batch: usize, width: usize) -> Tensor {
    Tensor::F32(ArrayD::from_elem(vec![batch, width], 0.3))
}

/// Rows a second through a graph of one input.
pub(crate) fn rate(runtime: &Runtime, graph: &Path, input: &str, width: usize, arrangement: Arrangement, batch: usize) -> f64 {
    let (over, done, ready) = (AtomicBool::new(false), AtomicUsize::new(0), Barrier::new(arrangement.sessions + 1));
    std::thread::scope(|scope| {
        for _ in 0..arrangement.sessions {
            scope.spawn(|| {
                let mut session = open(runtime, graph, arrangement.threads);
                let rows = rows(batch, width);
                session.run(&[(input, &rows)]).expect("a run");
                ready.wait();
                while !over.load(Ordering::Relaxed) {
                    session.run(&[(input, &rows)]).expect("a run");
                    done.fetch_add(batch, Ordering::Relaxed);
                }
            });
        }
        ready.wait();
        let begun = Instant::now();
        std::thread::sleep(SPAN);
        let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        rate
    })
}

/// The median time of a run of one row.
pub(crate) fn median_seconds(runtime: &Runtime, graph: &Path, input: &str, width: usize) -> f64 {
    let (mut session, row) = (open(runtime, graph, 1), rows(1, width));
    let times: Vec<f64> = (0..2000)
        .map(|_| {
            let begun = Instant::now();
            session.run(&[(input, &row)]).expect("a run");
            begun.elapsed().as_secs_f64()
        })
        .collect();
    crate::median(&times)
}
