//! Encoder–decoders beside what people would use in their place: `scripts/bench seq2seq`.
//!
//! A model of T5-small's shape with random weights, on two threads; sixteen inputs of 32 to 128 tokens that are asked for at once, 64
//! tokens of output each. Ours answers over gRPC, text in and text out, with the tokenizer in the server's process; its client shares
//! the cores. CTranslate2 and transformers (float32, one padded batch) run inside Python, from token ids to token ids. Each round measures
//! everybody in turn with inputs that nobody has seen; the median of the rounds counts. Ours must be at least 1.3 times the best peer
//! of the same precision.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::struct_field_names,
    reason = "a benchmark prints, ends where it cannot measure, and names other people's programs"
)]

#[allow(dead_code, reason = "a part of them is of use here")]
#[path = "../text/measured.rs"]
mod measured;
#[path = "../text/prompts.rs"]
mod prompts;
mod served;
#[allow(dead_code, reason = "a part of it is of use here")]
#[path = "../server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use measured::{mean_ttft, median, rate};
use served::Served;

const ROUNDS: usize = 5;
const THREADS: usize = 2;
const BAR: f64 = 1.3;

/// A precision: our model, and the peers of it.
const CLASSES: [(&str, &[&str]); 2] = [("fp32", &["ctranslate2-fp32", "transformers"]), ("int8", &["ctranslate2-int8", "transformers"])];

fn rounds() -> usize {
    let asked = std::env::args().find_map(|argument| argument.strip_prefix("--rounds:")?.parse().ok());
    asked.unwrap_or(ROUNDS)
}

fn main() {
    // `cargo test --all-targets` must not run a benchmark.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from) else {
        println!("usage: scripts/bench seq2seq");
        return;
    };
    let prompts = prompts::rounds(&folder);
    assert!(rounds() <= prompts.len(), "there are inputs for {} rounds", prompts.len());
    let mut rates: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut firsts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (number, prompts) in prompts.iter().enumerate().take(rounds()) {
        for (class, _) in CLASSES {
            let served = Served::start(&folder, &format!("t5-{class}"), THREADS);
            served.together(&prompts["warm-up"]);
            let answers = served.together(&prompts["sixteen"]);
            rates.entry(format!("quintet-{class}")).or_default().push(rate(&answers));
            firsts.entry(class).or_default().push(1e3 * mean_ttft(&answers));
        }
        for peer in ["ctranslate2-fp32", "ctranslate2-int8", "transformers"] {
            rates.entry(peer.to_owned()).or_default().push(peer_rate(&folder, peer, number));
        }
    }
    println!("| T5-small's shape, 16 at once, 32–128 in, 64 out: tok/s | quintet | peers | over the best | bar | first token, ms |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (class, peers) in CLASSES {
        let of = |who: &str| rates.get(who).map_or(f64::NAN, |rates| median(rates));
        let (ours, best) = (of(&format!("quintet-{class}")), peers.iter().map(|peer| of(peer)).fold(f64::NAN, f64::max));
        let theirs: Vec<String> = peers.iter().map(|peer| format!("{peer} {:.0}", of(peer))).collect();
        let missed = if ours / best >= BAR { "" } else { ": **missed**" };
        let first = firsts.get(class).map_or(f64::NAN, |firsts| median(firsts));
        println!("| {class} | {ours:.0} | {} | {:.2} | at least {BAR}{missed} | {first:.0} |", theirs.join(", "), ours / best);
    }
    println!("\nmedians of {} rounds; {THREADS} threads of {} processors", rounds(), std::thread::available_parallelism().map_or(1, usize::from));
}

/// Tokens a second of one round by a peer, in a process of its own.
fn peer_rate(folder: &Path, peer: &str, number: usize) -> f64 {
    let python = std::env::var("QUINTET_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/seq2seq/peers.py");
    let output = Command::new(python).arg(script).arg(folder).args([peer, &number.to_string(), &THREADS.to_string()]).output().expect("Python");
    assert!(output.status.success(), "{peer}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| serde_json::from_str::<BTreeMap<String, f64>>(line).ok()).expect("a line of JSON");
    line["tokens"] / line["seconds"]
}
