//! How much of the raw ONNX Runtime loop reaches a client that sends text: `scripts/bench encoders`.
//!
//! all-MiniLM-L6-v2 in fp32. The raw loop has its tokens ready and runs batches of the size that it is best at, of one length or sorted by
//! length and padded; the service tokenizes, pools and answers over gRPC, with its clients on the same cores. Both are measured in turn,
//! round after round, and the median of the rounds counts, since machines are shared.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
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
mod texts;

use std::path::{Path, PathBuf};

use raw::Arrangement;
use served::Served;
use texts::Text;

/// Rounds of each measurement, unless `--rounds:N` says otherwise.
const ROUNDS: usize = 7;

/// Requests under way at once.
const CLIENTS: usize = 32;

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
        println!("usage: scripts/bench encoders");
        return;
    };
    let (runtime, texts, served) = (raw::runtime(), texts::read(&folder), Served::start(&folder));
    println!("{:<62} {:>10} {:>10} {:>7}  bar", "", "raw", "served", "ratio");
    let only = flag("only");
    let asked = |name: &str| only.as_ref().is_none_or(|only| only == name);
    if asked("short") {
        let graph = folder.join("models/minilm/1/model.onnx");
        rate(&runtime, &served, &graph, &texts.short, &[4, 8, 16, 32], "texts of 16 tokens, 32 clients: tokens/s", 0.95);
    }
    if asked("mixed") {
        let graph = folder.join("masked/1/model.onnx");
        rate(&runtime, &served, &graph, &texts.mixed, &[1, 4, 8, 32], "texts of 8 to 256 tokens, 32 clients: tokens/s", 0.90);
    }
    if asked("latency") {
        let graph = folder.join("models/minilm/1/model.onnx");
        let added = || 1e3 * (served.median_seconds(&texts.short) - raw::median_seconds(&runtime, &graph, &texts.short));
        let added: Vec<f64> = (0..rounds()).map(|_| added()).collect();
        println!("{:<62} {:>29.3}  at most 0.400", "a text of 16 tokens, one client: added milliseconds", median(&added));
    }
    println!("\nmedians of {} rounds; {} processors", rounds(), std::thread::available_parallelism().map_or(1, usize::from));
}

/// The service's rate beside that of the raw loop as it is best.
fn rate(runtime: &quintet_onnx::Runtime, served: &Served, graph: &Path, texts: &[Text], batches: &[usize], what: &str, bar: f64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arrangements: Vec<(Arrangement, Vec<f64>)> = [(1, cores), (cores, 1)]
        .into_iter()
        .flat_map(|(sessions, threads)| batches.iter().map(move |batch| (Arrangement { sessions, threads, batch: *batch }, Vec::new())))
        .collect();
    let mut rates = Vec::new();
    for _ in 0..rounds() {
        for (arrangement, rates) in &mut arrangements {
            rates.push(raw::rate(runtime, graph, texts, *arrangement));
        }
        rates.push(served.rate(texts, CLIENTS));
    }
    // The best arrangement is that of the best median: the best of each round would be the noise's.
    arrangements.sort_by(|(_, a), (_, b)| median(b).total_cmp(&median(a)));
    let Some((arrangement, best)) = arrangements.first() else { return };
    println!("raw loop: {arrangement:?}");
    let ratios: Vec<f64> = best.iter().zip(&rates).map(|(raw, served)| served / raw).collect();
    println!("{what:<62} {:>10.0} {:>10.0} {:>7.3}  at least {bar:.2}", median(best), median(&rates), median(&ratios));
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
