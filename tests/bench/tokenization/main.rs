//! How much of the raw crate reaches a client, and what people use instead: `scripts/bench tokenization`.
//!
//! Rates are megabytes of text a second. Each round measures everything in turn, on the same machine in the same run; the median
//! of the rounds counts. The server and its clients share the cores that the raw crate and the peers have for themselves.

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

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use raw::Raw;
use served::Served;

const ROUNDS: usize = 7;
const SPAN: Duration = Duration::from_millis(1500);

/// About twenty tokens.
const SHORT: &str = "The quick brown fox jumps over the lazy dog, and then it returns a list of names to the caller.";

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
        println!("usage: scripts/bench tokenization");
        return;
    };
    let texts: Vec<String> = serde_json::from_str(&std::fs::read_to_string(folder.join("texts.json")).expect("texts.json")).expect("texts");
    let served = Served::start(&folder);
    let only = flag("only");
    let asked = |name: &str| only.as_ref().is_none_or(|only| only == name);
    println!("{:.1} MB of English in texts of a kilobyte\n", texts.iter().map(String::len).sum::<usize>() as f64 / 1e6);
    if asked("bulk") {
        bulk(&folder, &served, &texts);
    }
    if asked("latency") {
        latency(&served);
    }
    if asked("growth") {
        growth(&served);
    }
    println!("\nmedians of {} rounds; {} processors", rounds(), std::thread::available_parallelism().map_or(1, usize::from));
}

fn bulk(folder: &Path, served: &Served, texts: &[String]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (model, what) in [("bytes", "byte-level BPE, 32,000 tokens"), ("words", "WordPiece, 16,000 tokens")] {
        let raw = Raw::load(&folder.join("models").join(model).join("1/tokenizer.json"));
        let mut rates: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for _ in 0..rounds() {
            let mut note = |name: &str, rate: f64| rates.entry(name.to_owned()).or_default().push(rate);
            note("raw-1", raw.rate(texts, 1, SPAN) / 1e6);
            note("raw", raw.rate(texts, cores, SPAN) / 1e6);
            for clients in [1, 2, 4, 8] {
                note(&format!("served-{clients}"), served.rate(model, texts, clients, SPAN) / 1e6);
            }
            for (name, rate) in peers(folder).into_iter().filter(|(name, _)| name.ends_with(model)) {
                note(&name, rate);
            }
        }
        let of = |name: &str| rates.get(name).map_or(f64::NAN, |rates| median(rates));
        let ratio = |a: &str, b: &str| match (rates.get(a), rates.get(b)) {
            (Some(a), Some(b)) => median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>()),
            _ => f64::NAN,
        };
        println!("{what}: MB/s");
        println!("  {:<44} {:>8.1}", "raw crate, one thread", of("raw-1"));
        println!("  {:<44} {:>8.1}  {:.2} times one thread (bar 1.8)", format!("raw crate, {cores} threads"), of("raw"), ratio("raw", "raw-1"));
        for clients in [1, 2, 4, 8] {
            let (name, what) = (format!("served-{clients}"), format!("over gRPC, {clients} at once, 64 texts a call"));
            println!("  {what:<44} {:>8.1}  {:.3} of raw (bar 0.80)", of(&name), ratio(&name, "raw"));
        }
        for peer in [format!("tokenizers-{model}"), format!("tiktoken-{model}")].into_iter().filter(|peer| rates.contains_key(peer)) {
            let best = [1, 2, 4, 8].map(|clients| ratio(&format!("served-{clients}"), &peer)).into_iter().fold(0.0, f64::max);
            println!("  {:<44} {:>8.1}  we are {best:.1} times as fast (bar 5)", format!("Python's {peer}, {cores} threads"), of(&peer));
        }
    }
}

/// The rates of the peers from Python.
fn peers(folder: &Path) -> Vec<(String, f64)> {
    let python = std::env::var("QUINTET_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/tokenization/peers.py");
    let output = Command::new(python).arg(script).arg(folder).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| line.split_once(' ').and_then(|(name, rate)| Some((name.to_owned(), rate.parse().ok()?)))).collect()
}

fn latency(served: &Served) {
    for model in ["bytes", "words"] {
        let measured: Vec<(f64, f64)> = (0..rounds()).map(|_| served.seconds(model, SHORT)).collect();
        let ratios: Vec<f64> = measured.iter().map(|(call, echo)| call / echo).collect();
        let of = |pick: fn(&(f64, f64)) -> f64| 1e6 * median(&measured.iter().map(pick).collect::<Vec<_>>());
        println!(
            "{model}: a text of twenty tokens in {:.0} µs, an echo in {:.0} µs: {:.2} times (bar 1.3)",
            of(|m| m.0),
            of(|m| m.1),
            median(&ratios)
        );
    }
}

/// Text that grows eightfold takes eight times as long, whatever it is made of.
fn growth(served: &Served) {
    println!("milliseconds for so many MB of one piece, over and over");
    println!("  {:<24} {:>9} {:>9} {:>9} {:>16}", "", "1", "8", "64", "64 MB by 8 MB");
    for model in ["bytes", "words"] {
        for piece in ["a", " ", "\n", "日", "word ", "👍🏽", "e\u{301}", "1"] {
            let times = [1, 8, 64].map(|megabytes| 1e3 * served.once(model, &piece.repeat((megabytes << 20) / piece.len())));
            println!("  {:<24} {:>9.1} {:>9.1} {:>9.1} {:>16.1}", format!("{model} {piece:?}"), times[0], times[1], times[2], times[2] / times[1]);
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
