//! What is done to a vector before it is answered.

/// Shortest length that a vector is divided by.
const LEAST_LENGTH: f64 = 1e-12;

/// The first `dimensions` values, if a number is given, scaled to length 1 if that is asked for.
pub fn finished(vector: &[f32], dimensions: Option<usize>, normalize: bool) -> Vec<f32> {
    let kept = dimensions.and_then(|dimensions| vector.get(..dimensions)).unwrap_or(vector);
    if !normalize {
        return kept.to_vec();
    }
    let length = kept.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(LEAST_LENGTH);
    kept.iter().map(|value| (f64::from(*value) / length) as f32).collect()
}

/// A vector in 8 bits: whole numbers of -127 to 127, a byte each in two's complement, and what they are to be multiplied with: the
/// largest absolute value / 127.
pub fn int8(vector: &[f32]) -> (Vec<u8>, f32) {
    let largest = vector.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return (vec![0; vector.len()], 0.0);
    }
    let scale = largest / 127.0;
    // In double precision no value but the largest reaches 127, and that one does.
    let rounded = |value: &f32| (f64::from(*value) / f64::from(largest) * 127.0).round() as i8;
    (vector.iter().map(|value| rounded(value).to_le_bytes()[0]).collect(), scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_cut_and_then_scaled() {
        assert_eq!(finished(&[3.0, 4.0, 100.0], Some(2), true), [0.6, 0.8]);
        assert_eq!(finished(&[3.0, 4.0], None, false), [3.0, 4.0]);
        assert_eq!(finished(&[0.0, 0.0], None, true), [0.0, 0.0]);
    }

    #[test]
    fn eight_bits_are_off_by_half_a_step_at_most() {
        let vector: Vec<f32> = (0..300).map(|index| ((index * 37 % 101) as f32 - 50.0) * 0.013).collect();
        let (bytes, scale) = int8(&vector);
        for (value, byte) in vector.iter().zip(&bytes) {
            let number = i8::from_le_bytes([*byte]);
            assert!(number > i8::MIN && (f32::from(number) * scale - value).abs() <= scale * 0.5001, "{value} became {number}");
        }
        assert!(bytes.iter().any(|byte| i8::from_le_bytes([*byte]).unsigned_abs() == 127));
        assert_eq!(int8(&[0.0, -0.0]), (vec![0, 0], 0.0));
    }
}
