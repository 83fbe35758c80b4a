//! Sums and maxima of many numbers.
//!
//! Additions of floats have an order, which LLVM keeps: a plain sum is one long chain. Here each of several lanes has its
//! own, and the lanes are joined in a fixed order, so that the result is one function of the numbers on every processor.

/// Numbers per step, a few of the widest registers.
const LANES: usize = 16;

/// The highest, without those that are not numbers; minus infinity where there is none.
pub(super) fn highest(values: &[f32]) -> f32 {
    highest_of(values, |value| value)
}

/// The highest of those below a bound; minus infinity where there is none.
pub(super) fn highest_below(values: &[f32], bound: f32) -> f32 {
    highest_of(values, |value| if value < bound { value } else { f32::NEG_INFINITY })
}

#[inline]
fn highest_of(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = higher(*lane, of(value));
        }
    }
    let highest = lanes.into_iter().fold(f32::NEG_INFINITY, higher);
    rest.iter().fold(highest, |highest, &value| higher(highest, of(value)))
}

/// One `maxps` of SSE, unlike `f32::max`: the comparison fails, and the lane stays, where the value is not a number.
#[inline]
fn higher(lane: f32, value: f32) -> f32 {
    if value > lane { value } else { lane }
}

/// The sum, in double precision but for the innermost four of 64: converting those one by one takes as long as all the rest.
pub(super) fn sum(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<{ 4 * LANES }>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        let ([a, b, c, d], _) = chunk.as_chunks::<LANES>() else { continue };
        for ((((lane, a), b), c), d) in lanes.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *lane += f64::from((a + b) + (c + d));
        }
    }
    lanes.into_iter().sum::<f64>() + rest.iter().copied().map(f64::from).sum::<f64>()
}
