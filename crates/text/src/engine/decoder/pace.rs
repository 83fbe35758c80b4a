use std::time::Duration;

/// How many prompt tokens are run between two decode steps.
///
/// While nothing decodes, as many as the largest chunk has. While something does, so many that the time between two of its
/// tokens stays within a bound, by the time that tokens took lately; where a step alone takes more than half of the bound, as many as
/// run in the time of a step, or prompts would starve.
#[derive(Debug)]
pub(super) struct Pace {
    largest: usize,
    bound: Duration,
    /// Seconds that a prompt token takes, and a decode step, lately; 0 before the first.
    token: f64,
    step: f64,
}

/// The fewest tokens of a chunk: fewer would take longer in all than the gap gains.
const SMALLEST: usize = 16;

/// How much of the old is kept when something new is measured.
const INERTIA: f64 = 0.8;

impl Pace {
    /// A pace for chunks of at most `largest` tokens, and gaps between tokens of at most `bound` where a chunk can be made small
    /// enough; zero = no bound.
    pub(super) fn new(largest: usize, bound: Duration) -> Self {
        Self { largest, bound, token: 0.0, step: 0.0 }
    }

    /// The tokens that a chunk may have now.
    pub(super) fn chunk(&self, decoding: usize) -> usize {
        if decoding == 0 || self.bound.is_zero() || self.token <= 0.0 {
            return self.largest;
        }
        let left = (self.bound.as_secs_f64() - self.step).max(self.step);
        ((left / self.token) as usize).clamp(SMALLEST, self.largest.max(SMALLEST)).min(self.largest)
    }

    /// Notes how long a chunk took.
    pub(super) fn prefilled(&mut self, tokens: usize, took: Duration) {
        self.token = blend(self.token, took.as_secs_f64() / tokens.max(1) as f64);
    }

    /// Notes how long a decode step took.
    pub(super) fn decoded(&mut self, took: Duration) {
        self.step = blend(self.step, took.as_secs_f64());
    }
}

fn blend(old: f64, new: f64) -> f64 {
    if old == 0.0 { new } else { INERTIA * old + (1.0 - INERTIA) * new }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fill_what_the_bound_leaves_beside_a_step() {
        let mut pace = Pace::new(512, Duration::from_millis(50));
        assert_eq!((pace.chunk(0), pace.chunk(4)), (512, 512), "nothing is known yet");
        pace.prefilled(100, Duration::from_millis(50));
        pace.decoded(Duration::from_millis(10));
        assert_eq!((pace.chunk(0), pace.chunk(1)), (512, 80));
        for _ in 0..100 {
            pace.decoded(Duration::from_millis(40));
        }
        assert!((75..=80).contains(&pace.chunk(1)), "steps of 40 ms leave prompts as much, and not 10: {}", pace.chunk(1));
        pace.decoded(Duration::from_secs(10));
        assert_eq!(pace.chunk(1), 512, "a bound that cannot be held stops no prompt");
        let mut slow = Pace::new(512, Duration::from_millis(50));
        slow.prefilled(1, Duration::from_secs(1));
        assert_eq!(slow.chunk(1), SMALLEST);
        assert_eq!(Pace::new(8, Duration::from_millis(1)).chunk(1), 8);
        let mut unbounded = Pace::new(512, Duration::ZERO);
        unbounded.prefilled(1, Duration::from_secs(1));
        assert_eq!(unbounded.chunk(1), 512);
    }
}
