//! The exponential function over many numbers at a time.
//!
//! `f32::exp` calls the platform's libm for each number: that is slow, and its last bit differs between machines, and so
//! would what a seed draws. This is additions and multiplications alone, which round alike everywhere. It is to base 2: the
//! caller multiplies by a scale anyway, which takes the change of base in.

/// Below this the result is 0. It is above the smallest normal number's exponent, so that no result is subnormal.
const LOWEST: f32 = -125.5;

/// Adding this to a number of moderate size rounds it to an integer, which is then in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// `2^value` for values up to 0, within 1.25 units in the last place, and exactly 1 for 0. Values from -125.5 down, and those
/// that are not numbers, give 0.
#[inline]
pub(super) fn exp2(value: f32) -> f32 {
    // The polynomial of degree 6 with the lowest relative error for exponents up to a half: 2e-9.
    const COEFFICIENTS: [f32; 6] = [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_5, 0.000_153_533_62];

    let [c1, c2, c3, c4, c5, c6] = COEFFICIENTS;
    let rounded = value + ROUND;
    let fraction = value - (rounded - ROUND);
    let slope = ((((c6 * fraction + c5) * fraction + c4) * fraction + c3) * fraction + c2) * fraction + c1;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let result = (slope * fraction + 1.0) * power;
    if value > LOWEST { result } else { 0.0 }
}

/// `2^((value - highest) * scale)` of each value.
pub(super) fn exp2_all(values: &[f32], highest: f32, scale: f32, into: &mut [f32]) {
    for (weight, value) in into.iter_mut().zip(values) {
        *weight = exp2((value - highest) * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_within_a_unit_and_a_quarter_in_the_last_place() {
        // Every 601st of the thousand million or so numbers from -125.5 to the smallest whose result is not 1.
        let error = |bits| {
            let value = -f32::from_bits(bits);
            let exact = f64::from(value).exp2();
            let nearest = exact as f32;
            (f64::from(exp2(value)) - exact).abs() / f64::from(nearest - nearest.next_down())
        };
        let worst = (0x3300_0000..LOWEST.abs().to_bits()).step_by(601).map(error).fold(0.0, f64::max);
        assert!(worst < 1.25, "{worst}");
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(-0.0), 1.0);
        assert_eq!(exp2(-125.0), 2f32.powi(-125));
        for value in [LOWEST, -1e30, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(exp2(value).to_bits(), 0, "{value}");
        }
    }
}
