//! The text engine beside what people would use in its place: `scripts/bench text`.
//!
//! Models of three shapes with random weights in 8 bits, on two threads. Ours answers over gRPC, text in and text out, with the
//! tokenizer in the server's process; its client shares the cores. The peers run inside Python, from text to token ids:
//! llama.cpp (Q8_0), OpenVINO GenAI (8-bit weights, one scale a row), onnxruntime-genai and CTranslate2 (int8). Each round measures
//! everybody in turn with prompts that nobody has seen; the median of the rounds counts. Texts are greedy and as long as they were
//! asked for. Peers are given the room that a group of measurements needs, and the best settings that we know.

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

mod figures;
mod group;
mod measured;
mod peers;
mod prompts;
mod served;
#[allow(dead_code, reason = "a part of it is of use here")]
#[path = "../server.rs"]
mod server;
mod shape;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use figures::{Figures, OURS};
use group::{GROUPS, Group};
use prompts::Prompt;
use served::Served;
use shape::{SHAPES, Shape};

const ROUNDS: usize = 5;
const THREADS: usize = 2;
const PEERS: &str = "llama.cpp,openvino,genai,ctranslate2";

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
        println!("usage: scripts/bench text");
        return;
    };
    let prompts = prompts::rounds(&folder);
    assert!(rounds() <= prompts.len(), "there are prompts for {} rounds", prompts.len());
    let peers: Vec<String> =
        flag("peers").unwrap_or_else(|| PEERS.to_owned()).split(',').filter(|peer| !peer.is_empty()).map(str::to_owned).collect();
    let (shapes, only) = (flag("shape"), flag("only"));
    for shape in SHAPES.iter().filter(|shape| shapes.as_ref().is_none_or(|asked| asked.split(',').any(|name| name == shape.name))) {
        let mut figures = Figures::default();
        for (number, prompts) in prompts.iter().enumerate().take(rounds()) {
            for group in &GROUPS {
                let measurements = group.asked(only.as_deref());
                if let Some(first) = measurements.first() {
                    ours(&mut figures, &folder, shape, group, &measurements, prompts);
                    for peer in &peers {
                        let Some(round) = peers::round(&folder, peer, shape, group, &measurements, number, THREADS) else { continue };
                        for (measurement, answers) in &round.answers {
                            figures.take(peer, measurement, answers);
                        }
                        figures.memory(peer, first, round.memory);
                    }
                }
            }
            for who in peers.iter().map(String::as_str).chain([OURS]) {
                figures.end_round(who);
            }
        }
        figures.print(shape.what, &peers);
    }
    println!("medians of {} rounds; {THREADS} threads of {} processors", rounds(), std::thread::available_parallelism().map_or(1, usize::from));
}

/// One round of a group's measurements by the service.
fn ours(figures: &mut Figures, folder: &Path, shape: &Shape, group: &Group, measurements: &[&'static str], prompts: &BTreeMap<String, Vec<Prompt>>) {
    let served = Served::start(folder, shape, group, THREADS);
    let of = |name: &str| prompts.get(name).map_or(&[][..], Vec::as_slice);
    served.together(of("warm-up"));
    for measurement in measurements {
        let answers = if *measurement == "prefix" { served.in_turn(of(measurement)) } else { served.together(of(measurement)) };
        figures.take(OURS, measurement, &answers);
    }
    if let Some(first) = measurements.first() {
        figures.memory(OURS, first, served.memory());
    }
}
