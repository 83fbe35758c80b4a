//! The highest scores of a vocabulary, without sorting it.

use std::cmp::Ordering;

use super::lanes;

/// A token and its score.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) score: f32,
}

impl Candidate {
    /// Likelier first; equals in order of token, so that the order is one function of the scores.
    pub(super) fn likelier(self, other: Self) -> Ordering {
        other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal).then(self.token.cmp(&other.token))
    }
}

/// The first of the likeliest; none where no score is above minus infinity.
pub(super) fn first_of_highest(scores: &[f32]) -> Option<u32> {
    // The place is kept for each block rather than each score, which keeps the pass at one comparison for each.
    const BLOCK: usize = 256;
    let mut best = (f32::NEG_INFINITY, 0..0);
    for (first, block) in (0u32..).step_by(BLOCK).zip(scores.chunks(BLOCK)) {
        let highest = lanes::highest(block);
        if highest > best.0 {
            best = (highest, first..first + block.len() as u32);
        }
    }
    let (highest, mut places) = best;
    places.find(|place| scores.get(*place as usize) == Some(&highest))
}

/// The k likeliest in no order, fewer where fewer scores are above minus infinity.
///
/// Those above the k-th of what has been seen are gathered, and cut back to k where they have become several times that, so
/// that each score takes constant time however they are ordered.
pub(super) fn likeliest(scores: &[f32], k: usize, into: &mut Vec<Candidate>) {
    const BLOCK: usize = 32;
    into.clear();
    if k == 0 {
        return;
    }
    let room = k.saturating_mul(4).clamp(256, scores.len().max(256));
    into.reserve(room + BLOCK);
    let mut floor = f32::NEG_INFINITY;
    for (first, block) in (0u32..).step_by(BLOCK).zip(scores.chunks(BLOCK)) {
        if lanes::highest(block) > floor {
            into.extend((first..).zip(block).filter(|(_, score)| **score > floor).map(|(token, &score)| Candidate { token, score }));
            if into.len() >= room {
                // Tokens yet to come are after those that were seen, so one equal to the k-th is not among the k.
                floor = cut_back(into, k).unwrap_or(floor);
            }
        }
    }
    cut_back(into, k);
}

/// Leaves the k likeliest, and returns the score of the k-th.
fn cut_back(candidates: &mut Vec<Candidate>, k: usize) -> Option<f32> {
    if candidates.len() <= k {
        return None;
    }
    let (_, kth, _) = candidates.select_nth_unstable_by(k.saturating_sub(1), |a, b| a.likelier(*b));
    let floor = kth.score;
    candidates.truncate(k);
    Some(floor)
}
