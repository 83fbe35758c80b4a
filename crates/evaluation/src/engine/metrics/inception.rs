//! The Inception Score (Salimans et al. 2016): exp of the mean divergence of each image's class distribution from the
//! mean one, over splits.

use nalgebra::DMatrix;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

/// The reference's number of splits.
pub const SPLITS: usize = 10;

/// Class probabilities of images, with what the score needs of each.
#[derive(Clone, Debug)]
pub struct Predictions {
    probabilities: DMatrix<f64>,
    /// Σ p ln p of each image.
    negative_entropies: Vec<f64>,
}

impl Predictions {
    /// From logits: a row for each image.
    pub fn from_logits(logits: &DMatrix<f64>) -> Self {
        let mut probabilities = logits.clone();
        let mut negative_entropies = Vec::with_capacity(logits.nrows());
        for mut row in probabilities.row_iter_mut() {
            let highest = row.max();
            let total = row.iter().map(|logit| (logit - highest).exp()).sum::<f64>().ln();
            // The logarithm first: that of a tiny probability would be lost.
            let logs: Vec<f64> = row.iter().map(|logit| logit - highest - total).collect();
            negative_entropies.push(logs.iter().map(|log| log.exp() * log).sum());
            row.iter_mut().zip(&logs).for_each(|(value, log)| *value = log.exp());
        }
        Self { probabilities, negative_entropies }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.negative_entropies.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.negative_entropies.is_empty()
    }

    /// The mean over splits of the images in this order.
    pub fn score(&self, order: &[usize]) -> f64 {
        let splits = SPLITS.min(order.len()).max(1);
        let bounds = |split: usize| split * order.len() / splits;
        let scores = (0..splits).map(|split| self.split_score(order.get(bounds(split)..bounds(split + 1)).unwrap_or_default()));
        scores.sum::<f64>() / splits as f64
    }

    fn split_score(&self, images: &[usize]) -> f64 {
        let count = images.len() as f64;
        let mut mean = vec![0.0; self.probabilities.ncols()];
        let mut negative_entropy = 0.0;
        for image in images {
            negative_entropy += self.negative_entropies.get(*image).copied().unwrap_or_default() / count;
            for (class, mean) in mean.iter_mut().enumerate() {
                *mean += self.probabilities.get((*image, class)).copied().unwrap_or_default() / count;
            }
        }
        let of_mean: f64 = mean.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum();
        (negative_entropy - of_mean).exp()
    }
}

/// The order in which a seed puts `count` images.
pub fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_and_varied_images_score_the_number_of_classes() {
        let logits = DMatrix::from_fn(400, 4, |image, class| if image % 4 == class { 80.0 } else { 0.0 });
        let predictions = Predictions::from_logits(&logits);
        assert!((predictions.score(&shuffled(400, 1)) - 4.0).abs() < 0.2);
        let alike = Predictions::from_logits(&DMatrix::from_element(40, 4, 1.0));
        assert!((alike.score(&shuffled(40, 1)) - 1.0).abs() < 1e-12);
    }
}
