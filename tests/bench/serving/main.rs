//! How much of the raw ONNX Runtime loop reaches a client: `scripts/bench serving`.
//!
//! Every figure is a ratio of two rates, or a difference of two times, measured in turn, round after round, on the same
//! machine in the same run; the median of the rounds counts, since machines are shared. The server and its clients run on
//! the same cores as the raw loop did.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and ends where it cannot measure"
)]

mod raw;
mod served;
#[allow(dead_code, reason = "a part of it is of use here")]
#[path = "../server.rs"]
mod server;

use std::path::{Path, PathBuf};

use raw::Arrangement;
use served::Served;

/// Rounds of each measurement, unless `--rounds:N` says otherwise.
const ROUNDS: usize = 7;

/// A flag's value: `--NAME:VALUE`.
fn flag(name: &str) -> Option<String> {
    std::env::args().skip(1).find_map(|argument| Some(argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix(':')?.to_owned()))
}

fn rounds() -> usize {
    flag("rounds").and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

fn main() {
    // `cargo test --all-targets` must not run a benchmark.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from) else {
        println!("usage: scripts/bench serving");
        return;
    };
    let runtime = raw::runtime();
    let served = Served::start(&folder);
    println!("{:<62} {:>10} {:>10} {:>7}  bar", "", "raw", "served", "ratio");
    let only = flag("only");
    let asked = |name: &str| only.as_ref().is_none_or(|only| only == name);
    if asked("generator") {
        generator(&runtime, &served, &folder);
    }
    if asked("echo") {
        echo(&served);
    }
    if asked("latency") {
        latency(&runtime, &served, &folder);
    }
    println!("\nmedians of {} rounds; {} processors", rounds(), std::thread::available_parallelism().map_or(1, usize::from));
}

/// The DCGAN generator: images a second.
fn generator(runtime: &quintet_onnx::Runtime, served: &Served, folder: &Path) {
    let graph = folder.join("models/dcgan/1/model.onnx");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arrangements: Vec<(Arrangement, usize, Vec<f64>)> =
        [Arrangement { sessions: 1, threads: cores }, Arrangement { sessions: cores, threads: 1 }]
            .into_iter()
            .flat_map(|arrangement| [16, 32, 64].map(|batch| (arrangement, batch, Vec::new())))
            .collect();
    let (mut whole, mut single) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        for (arrangement, batch, rates) in &mut arrangements {
            rates.push(raw::rate(runtime, &graph, "z", 100, *arrangement, *batch));
        }
        whole.push(served.rate("dcgan", "z", 100, 1, 64));
        single.push(served.rate("dcgan", "z", 100, 32, 1));
    }
    // The best arrangement is that of the best median: the best of each round would be the noise's.
    arrangements.sort_by(|(.., a), (.., b)| median(b).total_cmp(&median(a)));
    let best = arrangements.first();
    let alike = arrangements.iter().find(|(_, batch, _)| *batch == 64);
    let (Some((arrangement, batch, best)), Some((alike_arrangement, _, alike))) = (best, alike) else { return };
    println!("raw loop of the generator: {arrangement:?}, batch {batch}; of batch 64: {alike_arrangement:?}");
    row("generator, batch 64, one client: images/s", alike, &whole, 0.95);
    row("  beside the raw loop's best arrangement", best, &whole, 0.95);
    row("generator, one image, 32 clients: images/s", best, &single, 0.90);
}

/// The small VAE's rows a second under h2load, beside an rpc of the same server that does nothing with the same bytes.
fn echo(served: &Served) {
    let (mut nothing, mut infer) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        nothing.push(served.h2load("ServerLive"));
        infer.push(served.h2load("ModelInfer"));
    }
    row("small VAE, one row, h2load 4 x 8, beside an echo: calls/s", &nothing, &infer, 0.65);
}

/// What a call adds to the run at concurrency 1.
fn latency(runtime: &quintet_onnx::Runtime, served: &Served, folder: &Path) {
    let graph = folder.join("models/vae/1/model.onnx");
    let added: Vec<f64> = (0..rounds()).map(|_| 1e3 * (served.median_seconds() - raw::median_seconds(runtime, &graph, "x", 30))).collect();
    println!("{:<62} {:>29.3}  at most 0.300", "small VAE, one row, one client: added milliseconds", median(&added));
}

fn row(what: &str, raw: &[f64], served: &[f64], bar: f64) {
    let ratios: Vec<f64> = raw.iter().zip(served).map(|(raw, served)| served / raw).collect();
    println!("{what:<62} {:>10.0} {:>10.0} {:>7.3}  at least {bar:.2}", median(raw), median(served), median(&ratios));
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
