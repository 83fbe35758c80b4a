//! The figures of each measurement, and the table of them.

use std::collections::BTreeMap;

use crate::measured::{Answer, Memory, gap, mean_ttft, median, rate};

/// Those who are measured, by name; ours is this one.
pub(crate) const OURS: &str = "quintet";

/// What a figure must be.
enum Bar {
    /// So many times the best peer's, or more.
    Above(f64),
    /// So many times the best peer's, or less.
    Below(f64),
    /// By itself, or less.
    AtMost(f64),
    /// By itself, or more.
    AtLeast(f64),
    /// It is for information.
    None,
}

/// A line of the table.
struct Line {
    figure: &'static str,
    what: &'static str,
    bar: Bar,
}

const fn line(figure: &'static str, what: &'static str, bar: Bar) -> Line {
    Line { figure, what, bar }
}

const LINES: [Line; 24] = [
    line("one decode", "one stream, 128 in and 128 out: decode tok/s", Bar::Above(1.15)),
    line("one ttft", "– time to first token, ms", Bar::Below(1.0)),
    line("one prefill", "– prefill tok/s", Bar::None),
    line("context-64 decode", "decode tok/s at context 64", Bar::None),
    line("context-512 decode", "– at 512", Bar::None),
    line("context-1024 decode", "– at 1,024", Bar::None),
    line("kept", "– at 1,024 over that at 64", Bar::AtLeast(0.85)),
    line("prefix", "same 512-token prefix: second time to first token over the first", Bar::AtMost(0.05)),
    line("one resident", "– one stream: resident MB", Bar::None),
    line("one beyond", "– one stream: MB beyond weights and KV budget", Bar::AtMost(150.0)),
    line("eight rate", "8 at once, 32–256 in, 64–128 out: tok/s, prefill counted", Bar::Above(1.5)),
    line("eight p50", "– inter-token gap p50, ms", Bar::None),
    line("eight p99", "– inter-token gap p99, ms", Bar::Below(1.0)),
    line("eight ttft", "– mean time to first token, ms", Bar::None),
    line("eight pieces", "– pieces of text a token", Bar::None),
    line("eight resident", "– resident MB", Bar::None),
    line("eight beyond", "– MB beyond weights and KV budget", Bar::AtMost(150.0)),
    line("thirtytwo rate", "32 at once, the same mix: tok/s, prefill counted", Bar::Above(1.5)),
    line("thirtytwo p50", "– inter-token gap p50, ms", Bar::None),
    line("thirtytwo p99", "– inter-token gap p99, ms", Bar::Below(1.0)),
    line("thirtytwo ttft", "– mean time to first token, ms", Bar::None),
    line("thirtytwo pieces", "– pieces of text a token", Bar::None),
    line("thirtytwo resident", "– resident MB", Bar::None),
    line("thirtytwo beyond", "– MB beyond weights and KV budget", Bar::AtMost(150.0)),
];

/// The figures of all rounds, by who they are of and what they are.
#[derive(Default)]
pub(crate) struct Figures {
    of: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl Figures {
    pub(crate) fn take(&mut self, who: &str, measurement: &str, answers: &[Answer]) {
        match (measurement, answers) {
            (_, []) => {}
            ("prefix", [first, second]) => self.note(who, "prefix", second.ttft() / first.ttft()),
            (_, [one]) => {
                self.note(who, &format!("{measurement} decode"), one.decode_rate());
                self.note(who, &format!("{measurement} ttft"), 1e3 * one.ttft());
                self.note(who, &format!("{measurement} prefill"), one.prefill_rate());
            }
            _ => {
                let (pieces, tokens): (usize, u32) = (answers.iter().map(|a| a.times.len()).sum(), answers.iter().map(|a| a.tokens).sum());
                self.note(who, &format!("{measurement} rate"), rate(answers));
                self.note(who, &format!("{measurement} p50"), 1e3 * gap(answers, 0.50));
                self.note(who, &format!("{measurement} p99"), 1e3 * gap(answers, 0.99));
                self.note(who, &format!("{measurement} ttft"), 1e3 * mean_ttft(answers));
                self.note(who, &format!("{measurement} pieces"), pieces as f64 / f64::from(tokens));
            }
        }
    }

    /// Of a process after a group of measurements, of which this is the first.
    pub(crate) fn memory(&mut self, who: &str, first: &str, memory: Memory) {
        self.note(who, &format!("{first} resident"), memory.resident as f64 / 1e6);
        if who == OURS {
            self.note(who, &format!("{first} beyond"), (memory.resident as f64 - (memory.weights + memory.kv) as f64) / 1e6);
        }
    }

    /// What is made of two measurements of a round.
    pub(crate) fn end_round(&mut self, who: &str) {
        let last = |figure: &str| self.of.get(who).and_then(|figures| figures.get(figure)?.last().copied());
        if let (Some(short), Some(long)) = (last("context-64 decode"), last("context-1024 decode")) {
            self.note(who, "kept", long / short);
        }
    }

    fn note(&mut self, who: &str, figure: &str, value: f64) {
        self.of.entry(who.to_owned()).or_default().entry(figure.to_owned()).or_default().push(value);
    }

    fn median(&self, who: &str, figure: &str) -> Option<f64> {
        let median = median(self.of.get(who)?.get(figure)?);
        median.is_finite().then_some(median)
    }

    /// A Markdown table: ours, each peer's, ours over the best peer's, and the bar.
    pub(crate) fn print(&self, what: &str, peers: &[String]) {
        println!("| {what} | {OURS} | {} | over the best | bar |", peers.join(" | "));
        println!("|---|{}", "---:|".repeat(peers.len() + 3));
        for line in &LINES {
            let Some(ours) = self.median(OURS, line.figure) else { continue };
            let theirs: Vec<Option<f64>> = peers.iter().map(|peer| self.median(peer, line.figure)).collect();
            let cells: Vec<String> = theirs.iter().map(|value| value.map_or_else(|| "–".to_owned(), shown)).collect();
            // The best peer is that of the best median: the best of each round would be the noise's.
            let less = matches!(line.bar, Bar::Below(_)) || ["ttft", "p50", "resident", "prefix"].iter().any(|kind| line.figure.ends_with(kind));
            let best = theirs.iter().flatten().copied().reduce(if less { f64::min } else { f64::max });
            let (over, bar) = match (&line.bar, best) {
                (Bar::Above(bar), Some(best)) => (format!("{:.2}", ours / best), judged("at least", *bar, ours / best >= *bar)),
                (Bar::Below(bar), Some(best)) => (format!("{:.2}", ours / best), judged("at most", *bar, ours / best <= *bar)),
                (Bar::AtMost(bar), _) => (String::new(), judged("at most", *bar, ours <= *bar)),
                (Bar::AtLeast(bar), _) => (String::new(), judged("at least", *bar, ours >= *bar)),
                (Bar::None, Some(best)) => (format!("{:.2}", ours / best), String::new()),
                (_, None) => (String::new(), String::new()),
            };
            println!("| {} | {} | {} | {over} | {bar} |", line.what, shown(ours), cells.join(" | "));
        }
        println!();
    }
}

fn judged(side: &str, bar: f64, held: bool) -> String {
    format!("{side} {bar}{}", if held { "" } else { ": **missed**" })
}

fn shown(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}
