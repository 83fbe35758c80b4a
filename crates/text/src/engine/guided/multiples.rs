//! What `multipleOf` may be.
//!
//! `llguidance` follows each remainder of each multiple, in building and without counting it as fuel: some 15 µs and 300 bytes for each.
//! And it reckons in 32 bits, and where a number does not fit it wraps: the texts would then be multiples of something else.

/// The remainders that all multiples in a schema may have together.
const MAX: u64 = 20_000;
/// A common multiple that is small enough however often it comes to be combined with something.
const SMALL: u64 = 10;
/// Decimal places.
const MAX_PLACES: u32 = 4;

/// The multiples in a schema, as whole numbers and the decimal places that they are shifted by.
#[derive(Default)]
pub(super) struct Multiples {
    found: Vec<(u64, u32)>,
    total: u64,
}

impl Multiples {
    /// Takes one.
    pub(super) fn add(&mut self, value: f64) -> Result<(), String> {
        // As `llguidance` does it: the same shift, and the same loss.
        let (mut shifted, mut places) = (value.abs(), 0);
        while shifted.fract() != 0.0 && places <= MAX_PLACES {
            shifted *= 10.0;
            places += 1;
        }
        if places > MAX_PLACES || !shifted.is_finite() || shifted > MAX as f64 {
            return Err(format!("multipleOf is {value}; at most {MAX} and {MAX_PLACES} decimal places are allowed"));
        }
        self.total += shifted as u64;
        self.found.push((shifted as u64, places));
        if self.total > MAX {
            return Err(format!("its multipleOf, without decimal points, add up to more than {MAX}"));
        }
        Ok(())
    }

    /// Whether they may be merged with each other in so many ways, whichever they are.
    pub(super) fn merge(&self, ways: u64) -> Result<(), String> {
        let places = self.found.iter().map(|(_, places)| *places).max().unwrap_or(0);
        let shifted = self.found.iter().map(|(whole, own)| whole * 10_u64.pow(places - own)).filter(|whole| *whole > 0);
        // No step of it overflows: each is at most `MAX` times the largest with its places.
        let common =
            shifted.into_iter().try_fold(1_u64, |common, whole| Some(common / shared(common, whole) * whole).filter(|common| *common <= MAX));
        match common {
            Some(common) if common <= SMALL || common.saturating_mul(ways) <= MAX => Ok(()),
            _ => Err("multipleOf is combined with other schemas in too many ways, or with multiples that share too little".to_owned()),
        }
    }
}

/// The greatest common divisor.
fn shared(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { shared(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(values: &[f64], ways: u64) -> Result<(), String> {
        let mut multiples = Multiples::default();
        values.iter().try_for_each(|value| multiples.add(*value))?;
        multiples.merge(ways)
    }

    #[test]
    fn what_would_wrap_or_take_long_is_refused() {
        assert_eq!(merged(&[], u64::MAX), Ok(()));
        assert_eq!(merged(&[0.01, 0.02, 0.05, 0.0], u64::MAX), Ok(()));
        assert_eq!(merged(&[0.01, 5.0, 100.0], 2), Ok(()));
        assert_eq!(merged(&[10_000.0, 10_000.0], 2), Ok(()));
        assert!(merged(&[10_000.0, 10_000.0], 3).is_err() && merged(&[12.0], u64::MAX).is_err());
        assert!(merged(&[7.0, 11.0, 13.0, 17.0, 19.0], 1).is_err() && merged(&[0.01, 1000.0], 1).is_err());
        assert!(merged(&[10_000.0, 10_001.0], 1).is_err());
        let mut multiples = Multiples::default();
        assert_eq!(multiples.add(20_000.0), Ok(()));
        assert!(multiples.add(1.0).is_err());
        assert_eq!(multiples.add(20_001.0), Err("multipleOf is 20001; at most 20000 and 4 decimal places are allowed".to_owned()));
        for value in [1e-300, 0.000_01, 1e300, f64::INFINITY, f64::NAN] {
            assert!(multiples.add(value).is_err(), "{value}");
        }
    }
}
