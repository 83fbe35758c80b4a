//! The two scores, at the posterior mean. Sums are in f64, so that their order leaves no trace in the answer.

use serde::Deserialize;

/// Probabilities of a Bernoulli likelihood are kept this far from 0 and 1.
const CLAMP: f64 = 1e-6;

/// How a sample is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreKind {
    /// The mean squared difference of sample and reconstruction, in standardised units.
    ReconstructionError,
    /// -log p(x | z = mean) + KL(q(z|x) || N(0, I)), in nats.
    NegativeElbo,
}

/// How a reconstruction explains a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Likelihood {
    /// Independent Gaussians around the reconstruction.
    Gaussian {
        /// Their standard deviation.
        sigma: f64,
    },
    /// Independent Bernoulli variables with the reconstruction as their means.
    Bernoulli,
}

/// Both scores of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// See [`ScoreKind::ReconstructionError`].
    pub reconstruction_error: f64,
    /// See [`ScoreKind::NegativeElbo`].
    pub negative_elbo: f64,
}

impl Scores {
    /// The score of a kind.
    pub fn of(&self, kind: ScoreKind) -> f64 {
        match kind {
            ScoreKind::ReconstructionError => self.reconstruction_error,
            ScoreKind::NegativeElbo => self.negative_elbo,
        }
    }
}

/// The scores of a sample with its reconstruction and its posterior.
pub fn scores(likelihood: Likelihood, sample: &[f32], reconstruction: &[f32], mean: &[f32], log_variance: &[f32]) -> Scores {
    let pairs = || sample.iter().zip(reconstruction).map(|(x, r)| (f64::from(*x), f64::from(*r)));
    let squared: f64 = pairs().map(|(x, r)| (x - r).powi(2)).sum();
    let negative_log = match likelihood {
        Likelihood::Gaussian { sigma } => squared / (2.0 * sigma.powi(2)) + sample.len() as f64 * 0.5 * (std::f64::consts::TAU * sigma.powi(2)).ln(),
        Likelihood::Bernoulli => pairs()
            .map(|(x, r)| {
                let p = r.clamp(CLAMP, 1.0 - CLAMP);
                -(x * p.ln() + (1.0 - x) * (1.0 - p).ln())
            })
            .sum(),
    };
    let divergence: f64 =
        mean.iter().zip(log_variance).map(|(m, v)| (f64::from(*m), f64::from(*v))).map(|(m, v)| 0.5 * (m * m + v.exp() - 1.0 - v)).sum();
    Scores { reconstruction_error: squared / sample.len().max(1) as f64, negative_elbo: negative_log + divergence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scores_follow_their_definitions() {
        let scores_of = |likelihood| scores(likelihood, &[1.0, 0.0], &[0.5, 0.25], &[1.0, 0.0], &[0.0, 0.0]);
        let gaussian = scores_of(Likelihood::Gaussian { sigma: 0.5 });
        assert!((gaussian.reconstruction_error - 0.3125 / 2.0).abs() < 1e-12);
        // 0.3125 / (2 · 0.25) + 2 · ½ ln(2π · 0.25) + ½
        let expected = 0.625 + (std::f64::consts::TAU * 0.25).ln() + 0.5;
        assert!((gaussian.negative_elbo - expected).abs() < 1e-12, "{gaussian:?}");
        let bernoulli = scores_of(Likelihood::Bernoulli);
        assert!((bernoulli.negative_elbo - (-(0.5f64.ln()) - 0.75f64.ln() + 0.5)).abs() < 1e-12);
    }

    #[test]
    fn a_certain_and_wrong_reconstruction_stays_finite() {
        let scores = scores(Likelihood::Bernoulli, &[1.0], &[0.0], &[0.0], &[0.0]);
        assert!((scores.negative_elbo - -(CLAMP.ln())).abs() < 1e-9);
    }
}
