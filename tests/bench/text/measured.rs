//! What came when, ours and the peers' alike, and the figures that are made of it.

/// An answered request.
pub(crate) struct Answer {
    pub(crate) prompt_tokens: u32,
    pub(crate) tokens: u32,
    /// When each piece of text came, in seconds since it was asked for.
    pub(crate) times: Vec<f64>,
}

/// Bytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// Of the process.
    pub(crate) resident: u64,
    /// Of the model's files.
    pub(crate) weights: u64,
    /// That keys and values may take.
    pub(crate) kv: u64,
}

impl Answer {
    fn first(&self) -> f64 {
        self.times.first().copied().unwrap_or(f64::NAN)
    }

    fn last(&self) -> f64 {
        self.times.last().copied().unwrap_or(f64::NAN)
    }

    /// Tokens a second after the first one.
    pub(crate) fn decode_rate(&self) -> f64 {
        f64::from(self.tokens.saturating_sub(1)) / (self.last() - self.first())
    }

    /// Seconds to the first token.
    pub(crate) fn ttft(&self) -> f64 {
        self.first()
    }

    /// Tokens of the prompt a second, the first token's draw included.
    pub(crate) fn prefill_rate(&self) -> f64 {
        f64::from(self.prompt_tokens) / self.first()
    }
}

/// Generated tokens a second, from the moment when all were asked for to the last token of the last.
pub(crate) fn rate(answers: &[Answer]) -> f64 {
    let tokens: u32 = answers.iter().map(|answer| answer.tokens).sum();
    f64::from(tokens) / answers.iter().map(Answer::last).fold(0.0, f64::max)
}

/// The mean of the seconds to the first token.
pub(crate) fn mean_ttft(answers: &[Answer]) -> f64 {
    answers.iter().map(Answer::first).sum::<f64>() / answers.len() as f64
}

/// The seconds between two pieces of one text that so large a part of all gaps does not exceed.
pub(crate) fn gap(answers: &[Answer], part: f64) -> f64 {
    let mut gaps: Vec<f64> =
        answers.iter().flat_map(|answer| answer.times.windows(2).map(|pair| pair.last().unwrap_or(&0.0) - pair.first().unwrap_or(&0.0))).collect();
    gaps.sort_by(f64::total_cmp);
    gaps.get((part * gaps.len() as f64) as usize).or(gaps.last()).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
