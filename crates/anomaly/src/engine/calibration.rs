//! Thresholds and p-values from normal samples.

use super::score::{ScoreKind, Scores};

/// What normal samples score, and the threshold that follows.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The part of normals that may score above the threshold.
    pub false_positive_rate: f64,
    reconstruction_errors: Vec<f64>,
    negative_elbos: Vec<f64>,
}

impl Calibration {
    /// A calibration from the scores of normals, of which there is at least one.
    pub fn new(scores: &[Scores], false_positive_rate: f64) -> Self {
        let sorted = |kind| {
            let mut values: Vec<f64> = scores.iter().map(|scores| scores.of(kind)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        Self { false_positive_rate, reconstruction_errors: sorted(ScoreKind::ReconstructionError), negative_elbos: sorted(ScoreKind::NegativeElbo) }
    }

    fn normals_by(&self, kind: ScoreKind) -> &[f64] {
        match kind {
            ScoreKind::ReconstructionError => &self.reconstruction_errors,
            ScoreKind::NegativeElbo => &self.negative_elbos,
        }
    }

    /// How many normals it was made from.
    pub fn normals(&self) -> usize {
        self.negative_elbos.len()
    }

    /// The lowest score of a normal above which lie at most the given part of all normals.
    pub fn threshold(&self, kind: ScoreKind) -> f64 {
        let normals = self.normals_by(kind);
        let above = (self.false_positive_rate * normals.len() as f64).floor() as usize;
        let index = normals.len().saturating_sub(above + 1);
        normals.get(index).copied().unwrap_or(f64::INFINITY)
    }

    /// The conformal p-value (Vovk et al. 2005): (1 + normals that score at least this high) / (1 + normals).
    pub fn p_value(&self, kind: ScoreKind, score: f64) -> f64 {
        let normals = self.normals_by(kind);
        let below = normals.partition_point(|normal| *normal < score);
        (1 + normals.len() - below) as f64 / (1 + normals.len()) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: ScoreKind = ScoreKind::NegativeElbo;

    fn calibration(values: &[f64], rate: f64) -> Calibration {
        let scores: Vec<Scores> = values.iter().map(|value| Scores { reconstruction_error: 0.0, negative_elbo: *value }).collect();
        Calibration::new(&scores, rate)
    }

    #[test]
    fn a_twentieth_of_a_hundred_normals_lies_above() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let calibration = calibration(&values, 0.05);
        assert_eq!(calibration.threshold(KIND), 95.0);
        assert_eq!(calibration.p_value(KIND, 95.0), 7.0 / 101.0);
        assert_eq!(calibration.p_value(KIND, 1000.0), 1.0 / 101.0);
        assert_eq!(calibration.p_value(KIND, 0.0), 1.0);
    }

    proptest! {
        #[test]
        fn the_threshold_keeps_its_rate_and_p_values_fall(values in prop::collection::vec(-1e3f64..1e3, 1..200), rate in 0.001f64..0.5, a in -2e3f64..2e3, b in -2e3f64..2e3) {
            let calibration = calibration(&values, rate);
            let threshold = calibration.threshold(KIND);
            let above = values.iter().filter(|value| **value > threshold).count();
            prop_assert!(above as f64 <= rate * values.len() as f64);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            let (p_low, p_high) = (calibration.p_value(KIND, low), calibration.p_value(KIND, high));
            prop_assert!(p_high <= p_low && p_high > 0.0 && p_low <= 1.0);
        }
    }
}
