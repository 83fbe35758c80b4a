//! Which tokens a share of the probability leaves.

use super::{exp::exp2, lanes};

/// A token of the band in which a cut must be, by its place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: f32,
    weight: f32,
    place: usize,
}

/// Keeps the keys above a threshold, and of those equal to it the ones up to a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    threshold: f32,
    last: usize,
}

impl Cut {
    /// Sets to 0 the weights that are not kept, of the block that begins at a place.
    pub(super) fn apply(self, first: usize, keys: &[f32], weights: &mut [f32]) {
        let within = self.within(first);
        for (key, weight) in keys.iter().zip(&mut *weights).take(within) {
            *weight = if *key >= self.threshold { *weight } else { 0.0 };
        }
        for (key, weight) in keys.iter().zip(weights).skip(within) {
            *weight = if *key > self.threshold { *weight } else { 0.0 };
        }
    }

    /// The same where the weights are their own keys.
    pub(super) fn apply_to_keys(self, first: usize, weights: &mut [f32]) {
        let (within, past) = weights.split_at_mut(self.within(first).min(weights.len()));
        within.iter_mut().for_each(|weight| *weight = if *weight >= self.threshold { *weight } else { 0.0 });
        past.iter_mut().for_each(|weight| *weight = if *weight > self.threshold { *weight } else { 0.0 });
    }

    /// How many of a block are up to the last that is kept of the equals.
    fn within(self, first: usize) -> usize {
        self.last.saturating_add(1).saturating_sub(first)
    }
}

/// What [`cut`] works in.
#[derive(Default)]
pub(super) struct Scratch {
    band: Vec<Entry>,
    sample_keys: Vec<f32>,
    sample_weights: Vec<f32>,
}

/// The cut that keeps the fewest of the highest keys whose weights reach a share of their total, equals in order of place.
///
/// Keys are from 0 to 1. Those from `floor` on are known to reach it. A threshold is bisected, each time with a pass that adds
/// up the weights above it, until few keys are left between the bounds, and those alone are sorted.
pub(super) fn cut(keys: &[f32], weights: &[f32], floor: f32, share: f32, total: f64, scratch: &mut Scratch) -> Cut {
    let Scratch { band, sample_keys, sample_weights } = scratch;
    let target = f64::from(share) * total;
    let mut bounds =
        Bounds { low: floor.clamp(f32::MIN_POSITIVE, 0.5).to_bits(), high: 1.0f32.to_bits() + 1, from_low: f64::INFINITY, from_high: 0.0 };
    if keys.len() >= SAMPLED {
        sample(keys, sample_keys);
        sample(weights, sample_weights);
        // Measured by what goes, which is many small weights: what stays can be few that the sample has missed.
        let goes = (total - target) * sample_keys.len() as f64 / keys.len() as f64;
        let target_of_sample = mass(sample_keys, sample_weights, 0.0) - goes;
        if target_of_sample > 0.0 {
            let mut guess = bounds;
            while guess.high - guess.low > FIRST_STEP / 4 {
                guess.halve(guess.middle(), sample_keys, sample_weights, target_of_sample);
            }
            bounds.gallop(guess.middle(), keys, weights, target);
        }
    }
    let is_own_keys = std::ptr::eq(keys, weights);
    while !bounds.are_near(is_own_keys) {
        bounds.halve(bounds.middle(), keys, weights, target);
    }

    let (low, high) = (f32::from_bits(bounds.low), f32::from_bits(bounds.high));
    gather(keys, weights, low, high, band);
    band.sort_unstable_by(|a, b| b.key.total_cmp(&a.key).then(a.place.cmp(&b.place)));
    let mut reached = bounds.from_high;
    let mut cut = Cut { threshold: low, last: keys.len() };
    for entry in band {
        cut = Cut { threshold: entry.key, last: entry.place };
        reached += f64::from(entry.weight);
        if reached >= target {
            break;
        }
    }
    cut
}

/// From this many keys on, the cut of a sample, which is near that of the whole, saves most of the passes over the whole.
const SAMPLED: usize = 8_192;

/// How far from the sample's cut that of the whole is looked for first: a sixteenth of an octave, in steps between
/// neighbouring floats.
const FIRST_STEP: u32 = 1 << 19;

/// Every 16th block of 16.
fn sample(values: &[f32], into: &mut Vec<f32>) {
    let (blocks, _) = values.as_chunks::<16>();
    into.clear();
    into.extend(blocks.iter().step_by(16).flatten());
}

/// Between which thresholds a cut is.
#[derive(Clone, Copy)]
struct Bounds {
    /// As bits, which for positive floats are in the order of the numbers, and about in proportion to their logarithms.
    low: u32,
    high: u32,
    /// The sums of the weights whose keys are from each on.
    from_low: f64,
    from_high: f64,
}

impl Bounds {
    fn middle(self) -> u32 {
        self.low + (self.high - self.low) / 2
    }

    /// Moves the one bound or the other to a place between them, and returns whether it was the upper.
    fn halve(&mut self, at: u32, keys: &[f32], weights: &[f32], target: f64) -> bool {
        let mass = mass(keys, weights, f32::from_bits(at));
        let is_above = mass < target;
        if is_above {
            (self.high, self.from_high) = (at, mass);
        } else {
            (self.low, self.from_low) = (at, mass);
        }
        is_above
    }

    /// Goes from a guess in growing steps, until the cut has been passed.
    fn gallop(&mut self, guess: u32, keys: &[f32], weights: &[f32], target: f64) {
        let (mut at, mut step, mut before) = (guess, FIRST_STEP, None);
        while self.low < at && at < self.high {
            let is_above = self.halve(at, keys, weights, target);
            if before.is_some_and(|before| before != is_above) {
                break;
            }
            before = Some(is_above);
            at = if is_above { at.saturating_sub(step) } else { at.saturating_add(step) };
            step = step.saturating_mul(2);
        }
    }

    /// Whether so few keys are left between the bounds that they can be sorted, as far as can be known without counting.
    fn are_near(self, is_own_keys: bool) -> bool {
        const FEW: f64 = 128.0;
        /// A hundredth of the number.
        const NARROW: u32 = 1 << 16;
        // Where weights are their own keys, none between the bounds is under the lower, so their sum bounds their number.
        self.high - self.low <= NARROW || is_own_keys && self.from_low - self.from_high <= FEW * f64::from(f32::from_bits(self.low))
    }
}

/// The sum of the weights whose keys are from a threshold on.
fn mass(keys: &[f32], weights: &[f32], threshold: f32) -> f64 {
    // The same code twice: once compiled to load each number only once.
    if std::ptr::eq(keys, weights) { mass_of(weights, weights, threshold) } else { mass_of(keys, weights, threshold) }
}

#[inline]
fn mass_of(keys: &[f32], weights: &[f32], threshold: f32) -> f64 {
    const LANES: usize = 16;
    /// Single precision is twice as fast, and over so few additions precise enough.
    const BLOCK: usize = 1024;
    // As a mask, since a choice between a number that is loaded and 0 becomes a branch.
    let kept = |key: f32, weight: f32| f32::from_bits(weight.to_bits() & 0u32.wrapping_sub(u32::from(key >= threshold)));
    let mut mass = 0.0;
    for (keys, weights) in keys.chunks(BLOCK).zip(weights.chunks(BLOCK)) {
        let ((keys, keys_rest), (weights, weights_rest)) = (keys.as_chunks::<LANES>(), weights.as_chunks::<LANES>());
        let mut lanes = [0.0f32; LANES];
        for (keys, weights) in keys.iter().zip(weights) {
            for ((lane, key), weight) in lanes.iter_mut().zip(keys).zip(weights) {
                *lane += kept(*key, *weight);
            }
        }
        mass += lanes.into_iter().map(f64::from).sum::<f64>();
        mass += keys_rest.iter().zip(weights_rest).map(|(key, weight)| f64::from(kept(*key, *weight))).sum::<f64>();
    }
    mass
}

/// The tokens whose keys are from `low` on and below `high`, in order of place.
fn gather(keys: &[f32], weights: &[f32], low: f32, high: f32, into: &mut Vec<Entry>) {
    const BLOCK: usize = 32;
    into.clear();
    // More than there mostly are, so that it seldom grows later.
    into.reserve(512);
    for (first, (keys, weights)) in (0..).step_by(BLOCK).zip(keys.chunks(BLOCK).zip(weights.chunks(BLOCK))) {
        // Few blocks have any, and this vectorises.
        if lanes::highest_below(keys, high) >= low {
            let entries = (first..).zip(keys.iter().zip(weights)).map(|(place, (&key, &weight))| Entry { key, weight, place });
            into.extend(entries.filter(|entry| (low..high).contains(&entry.key)));
        }
    }
}

/// Keys that are the higher the nearer a token's information is to the entropy: 1 at it.
///
/// With probabilities `2^x / total`, the information is `log2(total) - x` and the entropy `log2(total)` less the mean of `x`,
/// so their difference is that between `x` and its mean, without a logarithm.
pub(super) fn typical_keys(scores: &[f32], weights: &[f32], highest: f32, scale: f32, total: f64, into: &mut Vec<f32>) {
    let exponent = |score: f32| (score - highest) * scale;
    into.clear();
    // What has no weight can have an infinite exponent, and their product is to be 0.
    into.extend(scores.iter().zip(weights).map(|(score, weight)| exponent(*score).max(f32::MIN) * weight));
    let mean = (lanes::sum(into) / total) as f32;
    for ((key, score), weight) in into.iter_mut().zip(scores).zip(weights) {
        let nearness = exp2(-(exponent(*score) - mean).abs());
        *key = if *weight > 0.0 { nearness } else { 0.0 };
    }
}
