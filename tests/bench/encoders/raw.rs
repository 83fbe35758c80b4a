//! The raw loop: sessions that do nothing but run tokens that are ready, in this process.

use std::{
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ndarray::Array2;
use quintet_onnx::{Provider, Runtime, RuntimeConfig, ServingSettings, Session, Tensor};

use crate::texts::Text;

/// How long a rate is measured.
const SPAN: Duration = Duration::from_secs(3);

/// How the loop uses the machine: so many sessions at once, each with so many threads of its own, and texts in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrangement {
    pub(crate) sessions: usize,
    pub(crate) threads: usize,
    pub(crate) batch: usize,
}

pub(crate) fn runtime() -> Runtime {
    Runtime::load(&RuntimeConfig { library: "".into(), provider: Provider::Cpu, threads: 0, spin: true, cuda_graphs: true })
        .expect("the library: scripts/onnxruntime")
}

fn open(runtime: &Runtime, graph: &Path, threads: usize) -> Session {
    Session::open(runtime, graph, &ServingSettings { threads: Some(threads), ..ServingSettings::default() })
        .expect("the graph: scripts/bench makes it")
}

/// The texts in the order of their length, so many in a run, those of a run filled up to its longest.
fn batches(texts: &[Text], batch: usize) -> Vec<(usize, [Tensor; 3])> {
    let mut texts: Vec<&Text> = texts.iter().collect();
    texts.sort_by_key(|text| text.ids.len());
    let tensors = |texts: &[&Text]| {
        let shape = (texts.len(), texts.iter().map(|text| text.ids.len()).max().unwrap_or(0));
        let (mut ids, mut mask) = (Array2::<i64>::zeros(shape), Array2::<i64>::zeros(shape));
        for (row, text) in texts.iter().enumerate() {
            for (column, id) in text.ids.iter().enumerate() {
                (ids[[row, column]], mask[[row, column]]) = (*id, 1);
            }
        }
        [ids, mask, Array2::zeros(shape)].map(|values| Tensor::I64(values.into_dyn()))
    };
    texts.chunks(batch).map(|texts| (texts.iter().map(|text| text.ids.len()).sum(), tensors(texts))).collect()
}

fn run(session: &mut Session, tensors: &[Tensor; 3]) {
    let all = ["input_ids", "attention_mask", "token_type_ids"].into_iter().zip(tensors);
    let inputs: Vec<(&str, &Tensor)> = all.filter(|(name, _)| session.inputs().iter().any(|input| input.name == *name)).collect();
    session.run(&inputs).expect("a run");
}

/// Tokens a second, padding not counted.
pub(crate) fn rate(runtime: &Runtime, graph: &Path, texts: &[Text], arrangement: Arrangement) -> f64 {
    let batches = batches(texts, arrangement.batch);
    let (over, next, done, ready) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(arrangement.sessions + 1));
    std::thread::scope(|scope| {
        for _ in 0..arrangement.sessions {
            scope.spawn(|| {
                let mut session = open(runtime, graph, arrangement.threads);
                run(&mut session, &batches[0].1);
                ready.wait();
                while !over.load(Ordering::Relaxed) {
                    // A stride that meets all of them in another order than that of their length: any part of a pass is like the whole.
                    let (tokens, tensors) = &batches[next.fetch_add(1, Ordering::Relaxed) * 7 % batches.len()];
                    run(&mut session, tensors);
                    done.fetch_add(*tokens, Ordering::Relaxed);
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

/// The median time of a run of one text.
pub(crate) fn median_seconds(runtime: &Runtime, graph: &Path, texts: &[Text]) -> f64 {
    let mut session = open(runtime, graph, 1);
    let times: Vec<f64> = batches(texts, 1)
        .iter()
        .map(|(_, tensors)| {
            let begun = Instant::now();
            run(&mut session, tensors);
            begun.elapsed().as_secs_f64()
        })
        .collect();
    crate::median(&times)
}
