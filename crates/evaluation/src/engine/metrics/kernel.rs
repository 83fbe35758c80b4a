//! The kernel distance (KID, Bińkowski et al. 2018): the unbiased squared MMD with the kernel (x·y/D + 1)³, over subsets.

use nalgebra::DMatrix;
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha12Rng;

use super::bootstrap;
use crate::engine::Interval;

/// The reference's number of subsets.
pub const SUBSETS: usize = 100;

/// The reference's subset size; smaller sets take half of what there is.
const SUBSET_SIZE: usize = 1000;

/// The subset size for sets of these sizes.
pub fn subset_size(a: usize, b: usize) -> usize {
    SUBSET_SIZE.min(a.min(b) / 2)
}

/// The mean over subsets drawn without replacement, and the outer quantiles of the subsets' values: their spread, which
/// is no standard error of the mean. Rows are samples; each set has at least four.
pub fn distance(a: &DMatrix<f64>, b: &DMatrix<f64>, seed: u64) -> (f64, Option<Interval>) {
    let size = subset_size(a.nrows(), b.nrows());
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut values: Vec<f64> = (0..SUBSETS)
        .map(|_| {
            let a = a.select_rows(&index::sample(&mut random, a.nrows(), size).into_vec());
            let b = b.select_rows(&index::sample(&mut random, b.nrows(), size).into_vec());
            squared_mmd(&a, &b)
        })
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, bootstrap::percentiles(&mut values, "subset-quantiles"))
}

/// The unbiased squared maximum mean discrepancy of two sets of equal size.
pub fn squared_mmd(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
    let n = a.nrows() as f64;
    let kernel = |x: &DMatrix<f64>, y: &DMatrix<f64>| (x * y.transpose()).map(|dot| (dot / x.ncols() as f64 + 1.0).powi(3));
    let (within_a, within_b, between) = (kernel(a, a), kernel(b, b), kernel(a, b));
    let off_diagonal = |kernel: &DMatrix<f64>| (kernel.sum() - kernel.trace()) / (n * (n - 1.0));
    off_diagonal(&within_a) + off_diagonal(&within_b) - 2.0 * between.sum() / (n * n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::golden::matrix;

    #[test]
    fn sets_of_one_kind_are_closer_than_sets_of_two() {
        let (a, b) = (matrix(60, 4, 1), matrix(60, 4, 2));
        let far = b.map(|value| value + 1.0);
        let (near, interval) = distance(&a, &b, 5);
        let interval = interval.unwrap();
        assert!(interval.lower <= near && near <= interval.upper);
        assert!(distance(&a, &far, 5).0 > near + 0.5);
        assert_eq!(distance(&a, &b, 5).0.to_bits(), near.to_bits(), "one seed, one value");
    }
}
