//! The peers: `peers.py` drives each in a process of its own.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    group::Group,
    measured::{Answer, Memory},
    shape::Shape,
};

/// What a process has measured.
pub(crate) struct Round {
    pub(crate) answers: Vec<(String, Vec<Answer>)>,
    pub(crate) memory: Memory,
}

/// One round of a group's measurements by a peer; none where it does not run the shape.
pub(crate) fn round(folder: &Path, peer: &str, shape: &Shape, group: &Group, measurements: &[&str], number: usize, threads: usize) -> Option<Round> {
    if !folder.join("peers").join(peer).join(shape.name).is_dir() {
        return None;
    }
    let python = std::env::var("QUINTET_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/text/peers.py");
    let numbers = [number, group.slots, group.context, threads].map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(folder).args([peer, shape.name]).args(numbers).args(measurements).output().expect("Python");
    assert!(output.status.success(), "{peer}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut answers, mut memory) = (Vec::new(), Memory { resident: 0, weights: 0, kv: 0 });
    // Engines print things of their own.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(Value::is_object) {
        if let Some(name) = line["measurement"].as_str() {
            answers.push((name.to_owned(), line["requests"].as_array().expect("requests").iter().map(answer).collect()));
        } else {
            let bytes = |name: &str| line[name].as_u64().expect("bytes");
            memory = Memory { resident: bytes("resident"), weights: bytes("weights"), kv: 0 };
        }
    }
    Some(Round { answers, memory })
}

fn answer(value: &Value) -> Answer {
    let count = |name: &str| value[name].as_u64().and_then(|count| u32::try_from(count).ok()).expect("a count");
    let times = value["times"].as_array().expect("times").iter().filter_map(Value::as_f64).collect();
    Answer { prompt_tokens: count("prompt_tokens"), tokens: count("tokens"), times }
}
