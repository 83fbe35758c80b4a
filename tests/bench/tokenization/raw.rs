//! The raw crate in this process: what the service cannot be faster than.

use std::{
    hint::black_box,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tokenizers_fast::pipeline::{EncodeOptions, Override, PipelineTokenizer};

/// The crate's tokenizer.
pub(crate) struct Raw(PipelineTokenizer);

impl Raw {
    pub(crate) fn load(file: &Path) -> Self {
        let json = std::fs::read_to_string(file).expect("a tokenizer.json");
        let canonical = tokenizers_fast::canonicalize_str(&json).expect("a form that the crate reads");
        Self(tokenizers_fast::from_json(&canonical).expect("a tokenizer that the crate takes"))
    }

    /// Bytes a second that so many threads encode, each going through all texts from a place of its own.
    pub(crate) fn rate(&self, texts: &[String], threads: usize, span: Duration) -> f64 {
        let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let options = EncodeOptions { add_special_tokens: false, encode_special_tokens: true, padding: Override::Off, truncation: Override::Off };
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (done, over, options) = (&done, &over, &options);
                scope.spawn(move || {
                    let mut tokens = Vec::new();
                    for text in texts.iter().cycle().skip(texts.len() * thread / threads) {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        tokens.clear();
                        self.0.encode_into(text, options, &mut tokens).expect("tokens");
                        black_box(&tokens);
                        done.fetch_add(text.len(), Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(span / 8);
            let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
            std::thread::sleep(span);
            let rate = (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            rate
        })
    }
}
